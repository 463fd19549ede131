// The agent as the pages see it: one key, requests, one stream of what changes, and flows to apps.
//
//	sign in: code in the address -> POST /session -> key, in this tab's storage
//	api('GET', '/api/meshes')        a request
//	use('/api/meshes')               what the stream said last of it; naming it while drawing watches it
//	open(mesh, ep, 'terminal/shell') a flow

const KEY = 'ztm-console-key'

export const agent = { key: '', readOnly: false, terminal: false, state: 'starting', reason: '' }

let changed = () => {}

// onChange has a function called whenever something is to be drawn anew.
export function onChange(f) { changed = f }

export function redraw() { changed() }

// Failure is an error that the agent has told.
export class Failure extends Error {
  constructor(status, body) {
    super(body?.message || `HTTP ${status}`)
    this.code = body?.error || ''
    this.status = status
  }
}

// signIn exchanges the code in the address, if there is one, for a key. The code leaves the address
// before anything else happens.
export async function signIn() {
  const code = location.hash.slice(1)
  const kept = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY)
  if (code && !code.startsWith('/')) {
    history.replaceState(null, '', '/#/')
    const r = await fetch('/session', { method: 'POST', body: JSON.stringify({ code }) })
    const body = await r.json().catch(() => null)
    if (r.ok) {
      Object.assign(agent, body)
      keep(localStorage.getItem(KEY) !== null)
    } else if (!kept) {
      return end(body?.message)
    }
  }
  if (!agent.key && kept) Object.assign(agent, JSON.parse(kept))
  if (!agent.key) return end('')
  agent.state = 'connecting'
  connect()
}

// keep puts the key where this tab finds it after a reload, or where all tabs of this browser do.
export function keep(everywhere) {
  const value = JSON.stringify({ key: agent.key, readOnly: agent.readOnly, terminal: agent.terminal })
  sessionStorage.setItem(KEY, value)
  if (everywhere) localStorage.setItem(KEY, value)
  else localStorage.removeItem(KEY)
}

export function kept() { return localStorage.getItem(KEY) !== null }

// end is the end of this page's rights.
function end(reason) {
  sessionStorage.removeItem(KEY)
  localStorage.removeItem(KEY)
  Object.assign(agent, { key: '', state: 'ended', reason: reason || '' })
  changed()
}

// lock ends this session, here and at the agent.
export async function lock() {
  await request('DELETE', '/session').catch(() => {})
  end('')
}

async function request(method, path, body) {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const r = await fetch(path, { method, headers: { 'Ztm-Console': agent.key }, body: text })
  if (r.status === 401) {
    end('')
    throw new Failure(401, null)
  }
  return r
}

// api sends a request to the agent: body is a value, or the text of one. warn gets the sentences that
// a person should read beside the answer.
export async function api(method, path, body, warn) {
  const text = await signed(method, path, body, warn)
  try { return text ? JSON.parse(text) : null } catch { return text }
}

// signed is api for an answer that is kept as it is: what is signed must not be written anew.
export async function signed(method, path, body, warn) {
  const r = await request(method, path, body)
  const text = await r.text()
  if (!r.ok) {
    let reason = null
    try { reason = JSON.parse(text) } catch { reason = { message: text } }
    throw new Failure(r.status, reason)
  }
  const warnings = r.headers.get('Ztm-Warning')
  if (warnings && warn) warn(warnings)
  wake()
  return text
}

// socket opens a WebSocket by a ticket, which is in no address.
async function socket(path) {
  const r = await request('POST', '/tickets', { path })
  const body = await r.json()
  if (!r.ok) throw new Failure(r.status, body)
  return new WebSocket(path, ['ztm', 'ticket.' + body.ticket])
}

// The stream.

const known = new Map() // path -> { status, body, at }
let used = new Set(), watched = '', stream = null, wait = 1000

// use returns what is known of a request's answer: undefined until it has come.
export function use(path) {
  used.add(path)
  return known.get(path)
}

// data is the body of an answer that succeeded.
export function data(path) {
  const a = use(path)
  return a && a.status < 400 ? a.body : undefined
}

// drawn tells the agent what was used since the last time.
export function drawn() {
  const paths = document.hidden ? [] : [...used].slice(0, 24)
  for (const p of known.keys()) if (!used.has(p) && known.size > 64) known.delete(p)
  used = new Set()
  const text = JSON.stringify({ watch: paths })
  if (stream?.readyState === WebSocket.OPEN && text !== watched) {
    watched = text
    stream.send(text)
  }
}

// wake has the agent look again at once, after something was changed.
function wake() {
  if (stream?.readyState === WebSocket.OPEN && watched) stream.send(watched)
}

async function connect() {
  let ws
  try {
    ws = await socket('/live')
  } catch (e) {
    return lost()
  }
  ws.onopen = () => {
    Object.assign(agent, { state: 'connected' })
    stream = ws
    watched = ''
    wait = 1000
    changed()
  }
  ws.onmessage = m => {
    const { path, status, body } = JSON.parse(m.data)
    const old = known.get(path)
    known.set(path, { status, body, at: performance.now(), before: old && { body: old.body, at: old.at } })
    changed()
  }
  ws.onclose = lost
}

function lost() {
  stream = null
  if (agent.state === 'ended') return
  agent.state = 'lost'
  changed()
  setTimeout(connect, wait)
  wait = Math.min(wait * 2, 10000)
}

document.addEventListener('visibilitychange', () => changed())

// flowPath is the path of a flow.
function flowPath(mesh, ep, path, query) {
  const q = new URLSearchParams(query ?? {}).toString()
  return `/flow/${encodeURIComponent(mesh)}/${ep}/${path.split('/').map(encodeURIComponent).join('/')}${q ? '?' + q : ''}`
}

// Flow is a flow to an app. read gives its bytes in order; null is the end. What was read counts as
// used: the agent sends no more than a window ahead.
export class Flow {
  constructor(ws) {
    this.ws = ws
    this.queue = []
    this.waiting = null
    this.error = null
    ws.binaryType = 'arraybuffer'
    ws.onmessage = m => this.message(m.data)
    ws.onclose = () => this.finish(new Failure(0, { message: 'connection lost' }))
  }

  message(m) {
    if (typeof m !== 'string') return this.push(new Uint8Array(m))
    const s = JSON.parse(m)
    if (s.message) this.finish(new Failure(0, s))
    else if (s.open) this.opened?.()
    else if (s.end) this.finish(null)
    else if (s.lost) this.finish(new Failure(0, { message: 'connection lost' }))
  }

  push(item) {
    this.queue.push(item)
    this.waiting?.()
  }

  finish(error) {
    if (this.over) return
    this.over = true
    this.error = error
    this.opened?.()
    this.waiting?.()
  }

  async read() {
    while (!this.queue.length && !this.over) await new Promise(r => { this.waiting = r })
    const p = this.queue.shift()
    if (p) {
      if (this.ws.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify({ took: p.length }))
      return p
    }
    if (this.error) throw this.error
    return null
  }

  // write sends bytes, and waits while many have not left yet.
  async write(bytes) {
    while (this.ws.bufferedAmount > 1 << 20 && this.ws.readyState === WebSocket.OPEN) await new Promise(r => setTimeout(r, 10))
    if (this.ws.readyState !== WebSocket.OPEN) throw this.error ?? new Failure(0, { message: 'connection lost' })
    this.ws.send(bytes)
  }

  end() { this.ws.send('{"end":true}') }

  close() { this.ws.close() }
}

// open opens a flow; it fails with the reason of the exit.
export async function open(mesh, ep, path, query) {
  const flow = new Flow(await socket(flowPath(mesh, ep, path, query)))
  await new Promise(r => { flow.opened = r })
  flow.opened = null
  if (flow.over && flow.error && !flow.queue.length) throw flow.error
  return flow
}

// Bytes reads a flow in pieces of a given length.
export class Bytes {
  constructor(flow) {
    this.flow = flow
    this.have = new Uint8Array(0)
  }

  // take returns n bytes, or null at an end before the first.
  async take(n) {
    while (this.have.length < n) {
      const p = await this.flow.read()
      if (p === null) {
        if (this.have.length === 0) return null
        throw new Failure(0, { message: 'connection lost' })
      }
      const all = new Uint8Array(this.have.length + p.length)
      all.set(this.have)
      all.set(p, this.have.length)
      this.have = all
    }
    const out = this.have.subarray(0, n)
    this.have = this.have.subarray(n)
    return out
  }
}

// frame is a frame of a kind, as the apps for programs and for files have them: kind, length of 3
// bytes, payload.
export function frame(kind, payload) {
  const p = typeof payload === 'string' ? new TextEncoder().encode(payload) : payload ?? new Uint8Array(0)
  const f = new Uint8Array(4 + p.length)
  f.set([kind, p.length >> 16, p.length >> 8 & 255, p.length & 255])
  f.set(p, 4)
  return f
}

// nextFrame reads a frame; null is the end.
export async function nextFrame(bytes) {
  const head = await bytes.take(4)
  if (!head) return null
  const [kind, a, b, c] = head
  const n = a << 16 | b << 8 | c
  return { kind, payload: n ? (await bytes.take(n)).slice() : new Uint8Array(0) }
}
