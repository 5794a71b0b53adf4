// Browsers allow no web workers on pages opened from disk (file://). Search needs one, so there it
// runs in a hidden frame instead. The interface is that of `Worker`, as far as the theme uses it.
class FrameWorker extends EventTarget {
  constructor(url) {
    super()
    this.url = url
    const frame = document.createElement("iframe")
    frame.width = frame.height = frame.frameBorder = "0"
    frame.hidden = true
    document.body.appendChild(frame)
    this.frame = frame
    const inner = frame.contentDocument
    inner.open()
    inner.write(`<html><body><script>
      postMessage = parent.postMessage.bind(parent)
      importScripts = (...urls) => urls.reduce((done, url) => done.then(() =>
        new Promise(resolve => {
          const script = document.createElement("script")
          script.src = url
          script.addEventListener("load", resolve)
          document.body.appendChild(script)
        })), Promise.resolve())
    </script><script src="${url}"></script></body></html>`)
    inner.close()
    window.addEventListener("message", event => {
      if (event.source !== frame.contentWindow) return
      const message = new MessageEvent("message", { data: event.data })
      this.dispatchEvent(message)
      if (this.onmessage) this.onmessage(message)
    })
    this.loaded = new Promise(resolve => frame.addEventListener("load", resolve, { once: true }))
  }
  postMessage(data) {
    this.loaded.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
  }
  terminate() { this.frame.remove() }
}
if (location.protocol === "file:") window.Worker = FrameWorker
