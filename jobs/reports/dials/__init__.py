"""What the loop measures, along every dial of the simulated world, beside what is true."""
