// Programs at an endpoint, as the apps terminal and script run them: frames in a flow.
//
//	start, source, stdin, EOF, resize, signal  ->      <-  started, stdout, stderr, window, exit, failed

import { Bytes, Failure, frame, nextFrame, open } from './agent.js'

const START = 1, SOURCE = 2, STDIN = 3, EOF = 4, RESIZE = 5, SIGNAL = 6
const STARTED = 0x81, STDOUT = 0x82, STDERR = 0x83, WINDOW = 0x84, EXIT = 0x85, FAILED = 0x86
const MOST = 1 << 20, CHUNK = 32 << 10

// Program is one run. on: { started, stdout, stderr }, called in order and waited for.
export class Program {
  constructor(flow, window, on) {
    Object.assign(this, { flow, window, on, typed: [], sending: false })
  }

  // begin starts a program with its source, or returns to one if start is null.
  static async begin(mesh, ep, path, query, start, source, on) {
    const flow = await open(mesh, ep, path, query)
    const p = new Program(flow, start ? MOST : 0, on)
    if (start) {
      await flow.write(frame(START, JSON.stringify(start)))
      for (let at = 0; at < source.length; at += CHUNK) await flow.write(frame(SOURCE, source.subarray(at, at + CHUNK)))
    }
    return p
  }

  // run returns how the program ended; it fails if it did not start, or was lost.
  async run() {
    const bytes = new Bytes(this.flow)
    for (;;) {
      const f = await nextFrame(bytes)
      if (!f) throw new Failure(0, { message: 'connection lost' })
      switch (f.kind) {
        case STARTED: this.on.started?.(told(f)); break
        case STDOUT: await this.on.stdout(f.payload); break
        case STDERR: await (this.on.stderr ?? this.on.stdout)(f.payload); break
        case WINDOW: this.window += new DataView(f.payload.buffer).getUint32(0); this.send(); break
        case EXIT: this.flow.close(); return told(f)
        case FAILED: this.flow.close(); throw new Failure(0, told(f))
      }
    }
  }

  // type sends input as far as the window is open, and keeps the rest.
  type(bytes) {
    this.typed.push(bytes)
    this.send()
  }

  async send() {
    if (this.sending) return
    this.sending = true
    while (this.typed.length && this.window > 0) {
      const all = this.typed[0], n = Math.min(all.length, this.window, CHUNK)
      if (n < all.length) this.typed[0] = all.subarray(n)
      else this.typed.shift()
      this.window -= n
      await this.flow.write(frame(STDIN, all.subarray(0, n))).catch(() => {})
    }
    this.sending = false
  }

  end() { this.flow.write(frame(EOF)).catch(() => {}) }

  resize(cols, rows) {
    this.flow.write(frame(RESIZE, new Uint8Array([cols >> 8, cols & 255, rows >> 8, rows & 255]))).catch(() => {})
  }

  signal(name) { this.flow.write(frame(SIGNAL, name)).catch(() => {}) }

  close() { this.flow.close() }
}

function told(f) { return JSON.parse(new TextDecoder().decode(f.payload)) }
