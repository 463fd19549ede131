// One file over a flow of the app file, either way: docs/protocol.md section 7.3. Every block has its
// SHA-256, which is checked here, and made here.

import { Bytes, Failure, frame, nextFrame, open } from './agent.js'

const ENTRY = 1, FROM = 2, DATA = 3, HOLE = 4, ZEROS = 5, SUM = 6, FAILED = 7, TOTAL = 8, DONE = 9
const WANT = 0x81, REFUSED = 0x83, FINAL = 0x84, BUSY = 0x40, ABORT = 0x41
const BLOCK = 1 << 20, CHUNK = 64 << 10

function text(p) { return new TextDecoder().decode(p) }

function fail(message) { return new Failure(0, { message }) }

async function sum(parts) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', await new Blob(parts).arrayBuffer()))
}

function equal(a, b) { return a.length === b.length && a.every((x, i) => x === b[i]) }

// watch keeps a slow copy alive: the other side gives up after a minute of silence.
function watch(flow) { return setInterval(() => flow.write(frame(BUSY)).catch(() => {}), 15_000) }

// fetchFile returns the content of a file, as parts of a Blob. progress(done, all) is called now and then.
export async function fetchFile(mesh, ep, path, progress) {
  const flow = await open(mesh, ep, 'file/read', { path })
  const bytes = new Bytes(flow), beat = watch(flow)
  const blobs = []
  let parts = [], length = 0, at = 0, size = 0
  try {
    for (;;) {
      const f = await nextFrame(bytes)
      if (!f) throw fail('connection lost')
      const n = f.payload.length ? new DataView(f.payload.buffer) : null
      switch (f.kind) {
        case ENTRY: {
          const e = JSON.parse(text(f.payload))
          if (e.t !== 'f') throw fail(e.w || 'not a file')
          size = e.s ?? 0
          if (size > BLOCK) await flow.write(frame(WANT, new Uint8Array([0, 0, 0, 0, 0, 0, 0, 1, 0])))
          break
        }
        case DATA: parts.push(f.payload); length += f.payload.length; break
        case HOLE: parts.push(new Uint8Array(n.getUint32(0))); length += n.getUint32(0); break
        case ZEROS: {
          for (let left = Number(n.getBigUint64(0)); left > 0; left -= BLOCK) blobs.push(new Blob([new Uint8Array(Math.min(left, BLOCK))]))
          at += Number(n.getBigUint64(0))
          break
        }
        case SUM:
          if (!equal(await sum(parts), f.payload)) throw fail('a block arrived damaged')
          blobs.push(new Blob(parts))
          at += length
          parts = []
          length = 0
          progress(at, size)
          break
        case FAILED: throw fail(text(f.payload))
        case ABORT: throw new Failure(0, JSON.parse(text(f.payload)))
        case DONE:
          if (at !== size) throw fail('the file is not complete')
          await flow.write(frame(FINAL, JSON.stringify({ files: 1, bytes: at })))
          return blobs
        case FROM: case TOTAL: case BUSY: break
        default: throw fail('unexpected frame')
      }
    }
  } finally {
    clearInterval(beat)
    setTimeout(() => flow.close(), 1000) // the last frame leaves first
  }
}

// agree returns up to where what the other side has is the beginning of the file. It has told the sums
// of groups of blocks; if it has another file of that size, all of it counts or nothing.
async function agree(file, want) {
  const group = new DataView(want.buffer).getUint32(4) * BLOCK, whole = want[8] === 1, sums = want.subarray(9)
  let at = 0
  for (let i = 0; i < sums.length && at < file.size; i += 32) {
    const to = Math.min(at + group, file.size), blocks = []
    for (let from = at; from < to; from += BLOCK) blocks.push(await sum([file.slice(from, Math.min(from + BLOCK, to))]))
    if (!equal(await sum(blocks), sums.subarray(i, i + 32))) break
    at = to
  }
  return whole && at < file.size ? 0 : at
}

function eight(n) {
  const b = new Uint8Array(8)
  new DataView(b.buffer).setBigUint64(0, BigInt(n))
  return b
}

// sendFile writes a file into a directory of an endpoint. It goes on behind what an upload of the same
// file, of the same size and date, has left there.
export async function sendFile(mesh, ep, directory, file, progress) {
  const flow = await open(mesh, ep, 'file/write', { path: directory, name: file.name, into: '1' })
  const beat = watch(flow), bytes = new Bytes(flow)
  try {
    await flow.write(frame(ENTRY, JSON.stringify({ n: file.name, t: 'f', s: file.size, m: 0o644, c: (file.lastModified || Date.now()) * 1e6 })))
    let at = 0
    if (file.size > BLOCK) {
      const answer = await heard(bytes)
      if (answer.kind === REFUSED) throw fail(text(answer.payload.subarray(4)))
      if (answer.kind !== WANT) throw fail('unexpected frame')
      at = await agree(file, answer.payload)
      await flow.write(frame(FROM, eight(at)))
      progress(at, file.size)
    }
    for (let more = at < file.size || file.size === 0; more; more = at < file.size) {
      const block = new Uint8Array(await file.slice(at, at + BLOCK).arrayBuffer())
      for (let i = 0; i < block.length; i += CHUNK) await flow.write(frame(DATA, block.subarray(i, i + CHUNK)))
      await flow.write(frame(SUM, await sum([block])))
      at += block.length
      progress(at, file.size)
    }
    await flow.write(frame(DONE))
    for (;;) {
      const answer = await heard(bytes)
      if (answer.kind === REFUSED) throw fail(text(answer.payload.subarray(4)))
      if (answer.kind !== FINAL) continue
      const report = JSON.parse(text(answer.payload))
      if (report.failures?.length) throw fail(report.failures[0].reason ?? report.failures[0].error ?? 'not written')
      return report
    }
  } finally {
    clearInterval(beat)
    flow.close()
  }
}

// heard is the next frame that says something.
async function heard(bytes) {
  for (;;) {
    const f = await nextFrame(bytes)
    if (!f) throw fail('connection lost')
    if (f.kind === ABORT) throw new Failure(0, JSON.parse(text(f.payload)))
    if (f.kind !== BUSY) return f
  }
}

