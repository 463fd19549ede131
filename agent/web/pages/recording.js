// Recordings of terminals, as asciicast v2 has them: a header, then one event a line, [seconds, kind,
// text]. Only what was shown is recorded: what is typed has passwords in it. A recording stays in this
// page until a person saves it.

const MOST = 64 << 20 // characters
const LONGEST = 2 // seconds that a replay waits for what comes next
const CLEAR = '\x1b[H\x1b[2J'

// Tape records a terminal, from what is on its screen now.
export class Tape {
  constructor(term, title) {
    this.began = performance.now()
    this.decoder = new TextDecoder()
    this.header = { version: 2, width: term.cols, height: term.rows, timestamp: Math.floor(Date.now() / 1000), title }
    this.lines = []
    this.length = 0
    this.full = false
    this.add('o', CLEAR + screen(term))
  }

  output(bytes) { this.add('o', this.decoder.decode(bytes, { stream: true })) }

  resize(cols, rows) { this.add('r', `${cols}x${rows}`) }

  add(kind, text) {
    if (this.full || !text) return
    const entry = JSON.stringify([Math.round(performance.now() - this.began) / 1000, kind, text])
    this.length += entry.length
    this.full = this.length > MOST
    if (!this.full) this.lines.push(entry)
  }

  text() { return [JSON.stringify(this.header), ...this.lines, ''].join('\n') }
}

// screen is what a terminal shows, without colours.
function screen(term) {
  const b = term.buffer.active, lines = []
  for (let y = 0; y <= b.cursorY; y++) lines.push(b.getLine(b.baseY + y)?.translateToString(y !== b.cursorY) ?? '')
  lines.push(lines.pop().slice(0, b.cursorX))
  return lines.join('\r\n')
}

// parse reads a recording, which anybody may have written. It fails if it is none.
export function parse(text) {
  if (text.length > MOST * 2) throw new SyntaxError('too long')
  const lines = text.split('\n'), head = JSON.parse(lines[0])
  if (head?.version !== 2) throw new SyntaxError('version')
  const events = []
  for (const line of lines.slice(1)) {
    if (!line.trim()) continue
    const [at, kind, data] = JSON.parse(line)
    if (typeof at !== 'number' || typeof data !== 'string') throw new SyntaxError('event')
    if (kind === 'o' || kind === 'r') events.push({ at, kind, data })
  }
  return { cols: side(head.width, 80), rows: side(head.height, 24), events, seconds: events.at(-1)?.at ?? 0 }
}

function side(n, otherwise) { return Number.isInteger(n) && n > 0 ? Math.min(n, 500) : otherwise }

// Player shows a recording in a terminal. changed is called when it pauses, goes on or ends.
export class Player {
  constructor(term, cast, changed) {
    Object.assign(this, { term, cast, changed, speed: 1, next: 0, timer: 0, playing: false })
  }

  get at() { return this.cast.events[this.next - 1]?.at ?? 0 }

  play() {
    if (this.next >= this.cast.events.length) this.next = 0
    if (this.next === 0) {
      this.term.reset()
      this.term.resize(this.cast.cols, this.cast.rows)
    }
    this.playing = true
    this.changed()
    this.step()
  }

  pause() {
    clearTimeout(this.timer)
    this.playing = false
    this.changed()
  }

  // step shows what is due, and waits for what comes next. The terminal has taken one event before it
  // gets another.
  step() {
    const e = this.cast.events[this.next]
    if (!e) return this.pause()
    const wait = Math.min(Math.max(e.at - this.at, 0), LONGEST) / this.speed
    this.timer = setTimeout(() => {
      this.next++
      const on = () => { if (this.playing) this.step() }
      if (e.kind === 'o') return this.term.write(e.data, on)
      const [cols, rows] = e.data.split('x').map(Number)
      this.term.resize(side(cols, this.term.cols), side(rows, this.term.rows))
      on()
    }, wait * 1000)
  }
}
