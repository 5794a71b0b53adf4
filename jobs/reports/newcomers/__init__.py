"""Example tasks of Shiebler et al. 2018: e-mails, follows of new users, and what is new at all."""
