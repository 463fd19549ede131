// Terminals. A session is kept at its endpoint: a reload of the page, or a connection that is lost,
// returns to it. What a program writes is drawn and never obeyed: no clipboard, no links that open by
// themselves. A recording is made and replayed here: see recording.js.

import { agent, api, open, redraw } from './agent.js'
import { h } from './dom.js'
import { mesh, meshPath, self, trusted, ztm } from './mesh.js'
import { button, command, confirm, dialog, line, save, state } from './parts.js'
import { Program } from './process.js'
import { parse, Player, Tape } from './recording.js'
import { number, t } from './words.js'

const KEY = 'ztm-terminals'
const tabs = [] // { mesh, id, name, user, session, title, place, term, program, over, tape, player }
let current = null, restored = false, kind = null, asked = ''

export function terminals(query) {
  if (!agent.terminal) {
    return h('section', { class: 'welcome' }, h('h1', null, t('This binary has no terminal for browsers')),
      h('p', null, t('It was built without the files of xterm.js. Releases have them; for a binary of your own run:')), line('go run ./scripts/web && go build -tags ztm_xterm -o ztm .'),
      h('p', null, t('In a window of your own:')), line(command(ztm(), 'terminal', 'open', 'EP')))
  }
  restore()
  const wanted = query.get('ep')
  if (wanted && asked !== wanted) {
    asked = wanted
    queueMicrotask(() => begin(wanted))
  }
  return [
    h('div', { class: 'bar' }, tabs.map(x => h('span', { class: 'tab', key: x.place.id },
      h('button', { type: 'button', 'aria-pressed': x === current ? 'true' : 'false', onclick: () => show(x) }, x.title || x.name),
      h('button', { type: 'button', 'aria-label': t('Close {name}', x), onclick: () => leave(x) }, '✕'))),
      button(t('Open a terminal'), choose, { class: 'main' }), button(t('Play a recording'), playFile, { looks: true })),
    current?.player ? stage(current) : current ? h('div', { class: 'frame' + (current.account === 'root' ? ' root' : '') },
      h('div', { class: 'who' }, `${current.user}@${current.name}`, ' ', current.over ? state('quiet', current.over) : state('good', t('open')),
        current.over && current.session ? button(t('Return to it'), () => run(current, true)) : null,
        h('span', { class: 'space' }), recorder(current)),
      place(),
      h('div', { class: 'keys', 'aria-label': t('Keys') }, keys.map(([name, sequence]) => h('button', { type: 'button', onclick: () => { send(current, sequence); current.term?.focus() } }, name))))
      : h('p', { class: 'quiet' }, t('No terminal is open.')),
    current?.player ? null : line(command(ztm(), 'terminal', 'open', current?.name ?? 'EP')),
    current?.tape ? [h('p', { class: 'quiet' }, t('What is shown is recorded in this page, what is typed is not. The endpoint itself records all sessions after:')), line(command(current.id === self().id ? ztm() : ['ztm', 'ep', current.name], 'terminal', 'config', '--record', 'DIR'))] : null,
  ]
}

function place() { return h('div', { class: 'place', own: true, key: 'place', ref: e => { frameOf = e; mount() } }) }

// recorder begins a recording of a terminal, or ends it and saves it.
function recorder(x) {
  if (!x.term || x.over && !x.tape) return null
  if (!x.tape) return h('button', { type: 'button', onclick: () => { x.tape = new Tape(x.term, `${x.user}@${x.name}`); redraw() } }, t('Record'))
  return [x.tape.full ? state('busy', t('The recording is full.')) : state('bad', t('recording')), ' ', h('button', { type: 'button', onclick: () => {
    save(`${x.name}.cast`, [x.tape.text()])
    x.tape = null
    redraw()
  } }, t('Save the recording'))]
}

// stage shows a recording.
function stage(x) {
  const p = x.player
  return h('div', { class: 'frame' },
    h('div', { class: 'who' }, x.name, ' ', state('quiet', t('a recording')), ' ', `${number(Math.floor(p.at))} / ${t('{n} s', { n: number(Math.ceil(p.cast.seconds)) })}`, h('span', { class: 'space' }),
      h('button', { type: 'button', onclick: () => p.playing ? p.pause() : p.play() }, p.playing ? t('Pause') : t('Play')), ' ',
      h('label', null, t('Speed'), ' ', h('select', { value: String(p.speed), onchange: e => { p.speed = Number(e.target.value); redraw() } }, [1, 2, 4, 8].map(n => h('option', { value: String(n) }, `${n} ×`))))),
    place())
}

function playFile() {
  dialog({
    title: t('Play a recording'), text: t('A file in the format asciicast v2, such as one that an endpoint has made. It is shown here and sent nowhere.'), action: t('Play'),
    fields: [{ name: 'file', label: t('File'), kind: 'file', required: true }],
    submit: async v => { await play(v.file.name, await v.file.text()) },
  })
}

// play opens a tab that replays a recording.
export async function play(name, text) {
  let cast
  try { cast = parse(text) } catch { throw new Error(t('This is no recording of a terminal.')) }
  const x = { name, user: '', over: t('a recording'), early: [], place: document.createElement('div') }
  x.place.id = 'terminal' + tabs.length + Date.now()
  await screen(x)
  x.player = new Player(x.term, cast, redraw)
  tabs.push(x)
  show(x)
  x.player.play()
}

let frameOf = null

// mount shows the current terminal in the page.
function mount() {
  if (!frameOf || !current) return
  if (current.place.parentNode !== frameOf) frameOf.replaceChildren(current.place)
  requestAnimationFrame(() => { if (!current?.player) current?.fit?.fit() })
}

const keys = [['Esc', '\x1b'], ['Tab', '\t'], ['Ctrl-C', '\x03'], ['Ctrl-D', '\x04'], ['↑', '\x1b[A'], ['↓', '\x1b[B'], ['←', '\x1b[D'], ['→', '\x1b[C']]

// send types. What is typed while the session is being opened waits for it.
function send(x, text) {
  const bytes = new TextEncoder().encode(text)
  if (x.program) x.program.type(bytes)
  else if (!x.over && x.early.length < 1000) x.early.push(bytes)
}

function show(x) {
  current = x
  redraw()
  queueMicrotask(() => { mount(); x.term?.focus() })
}

function remember() {
  sessionStorage.setItem(KEY, JSON.stringify(tabs.filter(x => x.session).map(({ mesh, id, name, user, session }) => ({ mesh, id, name, user, session }))))
}

// restore returns to the sessions that this tab had before it was loaded again.
function restore() {
  if (restored) return
  restored = true
  for (const x of JSON.parse(sessionStorage.getItem(KEY) ?? '[]')) queueMicrotask(() => add(x, true))
}

function choose() {
  dialog({
    title: t('Open a terminal'), action: t('Open'), fields: [{ name: 'ep', label: t('Endpoint'), required: true, value: self().name, hint: t('A name, or an ID.') }],
    command: v => command(ztm(), 'terminal', 'open', v.ep || 'EP'), submit: v => begin(v.ep).then(() => null),
  })
}

async function begin(name) {
  if (/^[a-z2-7]{32}$/.test(name)) {
    const found = await api('GET', meshPath('endpoints', name))
    name = found.name
  }
  const e = name === self().name ? self() : await trusted(name)
  add({ mesh: mesh().name, id: e.id, name: e.name, user: e.user }, false)
}

function add(x, again) {
  x.place = document.createElement('div')
  x.place.id = 'terminal' + tabs.length + Date.now()
  tabs.push(x)
  run(x, again) // for as long as the session lasts
}

// load gets the terminal when it is first needed. Styles that it makes get the nonce of this page,
// without which the policy drops them, and nothing would be seen.
async function load() {
  if (kind) return kind
  const nonce = document.querySelector('script[nonce]').nonce
  const make = document.createElement.bind(document)
  document.createElement = (tag, options) => {
    const e = make(tag, options)
    if (String(tag).toLowerCase() === 'style') e.nonce = nonce
    return e
  }
  const link = make('link')
  link.rel = 'stylesheet'
  link.href = '/xterm/xterm.css'
  document.head.append(link)
  const [xterm, fit, unicode] = await Promise.all([import('/xterm/xterm.js'), import('/xterm/addon-fit.js'), import('/xterm/addon-unicode11.js')])
  kind = { ...xterm, ...fit, ...unicode }
  return kind
}

async function screen(x) {
  const { Terminal, FitAddon, Unicode11Addon } = await load()
  const term = new Terminal({
    allowProposedApi: true, fontSize: 14, scrollback: 5000, cursorBlink: false, screenReaderMode: localStorage.getItem('ztm-reader') === '1',
    linkHandler: { activate: (e, address) => follow(address) },
    theme: { background: '#10151a', foreground: '#e4e8ec' },
  })
  x.fit = new FitAddon()
  term.loadAddon(x.fit)
  term.loadAddon(new Unicode11Addon())
  term.unicode.activeVersion = '11'
  term.parser.registerOscHandler(52, () => true) // a program gets no clipboard
  term.attachCustomKeyEventHandler(e => composed(e, x))
  term.open(x.place)
  term.onData(text => paste(x, text))
  term.onBinary(text => x.program?.type(Uint8Array.from(text, c => c.charCodeAt(0))))
  term.onTitleChange(title => { x.title = [...title].slice(0, 64).join(''); redraw() })
  term.onResize(({ cols, rows }) => {
    clearTimeout(x.timer)
    x.timer = setTimeout(() => x.program?.resize(cols, rows), 100)
    x.tape?.resize(cols, rows)
  })
  new ResizeObserver(() => { if (!x.player) x.fit.fit() }).observe(x.place)
  x.term = term
}

// composed gives what a key means while an input method is on and composes nothing: the terminal
// would drop it. A space is given without passing the hidden field of the terminal: left there, it
// costs the next composition its first character.
function composed(e, x) {
  if (e.type === 'keydown' && e.key === ' ' && e.keyCode === 32 && !e.ctrlKey && !e.altKey && !e.metaKey && !e.isComposing) {
    x.term.input(' ', true)
    e.preventDefault()
    return false
  }
  if (e.type !== 'keydown' || e.keyCode !== 229 || e.isComposing) return true
  if (e.code === 'Escape') send(x, '\x1b')
  else if (e.ctrlKey && /^Key[A-Z]$/.test(e.code)) send(x, String.fromCharCode(e.code.charCodeAt(3) - 64))
  else return true
  e.preventDefault()
  return false
}

// paste asks before lines go to a shell that would run each of them.
function paste(x, text) {
  if (text.length > 1 && /[\r\n]./.test(text) && !x.term.modes.bracketedPasteMode) {
    confirm(t('Paste several lines'), t('The shell runs each line at once: {text}', { text: text.slice(0, 400).replaceAll('\r', '\n') }), '', async () => { send(x, text) })
    return
  }
  send(x, text)
}

// follow opens a link that a program has made, after a person has seen where it leads.
function follow(address) {
  let to
  try { to = new URL(address) } catch { return }
  if (to.protocol !== 'http:' && to.protocol !== 'https:') return
  confirm(t('Open a link'), t('A program in the terminal leads to: {address}', { address: to.href }), '', async () => { window.open(to.href, '_blank', 'noopener,noreferrer') })
}

async function run(x, again) {
  Object.assign(x, { over: '', early: [] })
  show(x)
  try {
    if (!x.term) await screen(x)
    mount()
    x.fit.fit()
    const size = { cols: x.term.cols, rows: x.term.rows }
    const start = again ? null : { tty: size, keep: true, env: ['TERM=xterm-256color', 'COLORTERM=truecolor', 'LANG=C.UTF-8'] }
    if (again) x.term.reset()
    x.program = await Program.begin(x.mesh, x.id, again ? 'terminal/attach' : 'terminal/shell', again ? { id: x.session } : {}, start, new Uint8Array(0), {
      started: s => { x.session = s.session; remember(); if (again) x.program?.resize(size.cols, size.rows); redraw() },
      stdout: p => { x.tape?.output(p); return new Promise(r => x.term.write(p, r)) },
    })
    for (const bytes of x.early.splice(0)) x.program.type(bytes)
    redraw()
    const exit = await x.program.run()
    x.session = ''
    x.over = exit.reason || t('ended with status {status}', { status: exit.status })
  } catch (e) {
    x.over = e.message
    if (again && e.code === 'destination_not_found') x.session = ''
  }
  x.program = null
  remember()
  redraw()
}

// leave closes a tab, and ends its session.
async function leave(x) {
  const i = tabs.indexOf(x)
  tabs.splice(i, 1)
  current = tabs[Math.max(0, i - 1)] ?? null
  const session = x.session
  x.session = ''
  remember()
  x.player?.pause()
  x.program?.close()
  x.term?.dispose()
  x.place.remove()
  redraw()
  queueMicrotask(mount)
  if (session) await open(x.mesh, x.id, 'terminal/end', { id: session }).then(f => f.close(), () => {})
}

