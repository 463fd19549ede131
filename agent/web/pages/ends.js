// Both ends of the tunnels of a mesh, in one picture for each:
//
//	this user's endpoints are asked -> what each says ┐
//	the chosen endpoint, live      -> what it says    ├> gather -> entrances — mesh — exits
//	the mesh                       -> what is offered ┘
//
// What nobody may ask is named, and no more: the targets of other users, and where they go in.

import { api, redraw } from './agent.js'
import { h } from './dom.js'
import { chosen, endpointPath, mesh, nameOf, ztm } from './mesh.js'
import { key } from './overview.js'
import { button, command, line, state, way } from './parts.js'
import { ago, number, size, t } from './words.js'

const AT_ONCE = 8 // endpoints that are asked at a time
const FOLD = 6 // ends of a side, and tunnels, that are shown before they fold
const asked = { of: '', busy: false, at: '', answers: {} } // answers: by endpoint, { tunnels } or { error }

// faults are what the endpoint says of the other ends, or of the targets, that fail.
export function faults(x) {
  return (x.health ?? []).filter(c => c.error).map(c => h('div', null, state('bad', `${/^[a-z2-7]{32}$/.test(c.name) ? nameOf(c.name) : c.name}: ${c.error}`)))
}

// listeners are where an entrance takes connections.
export function listeners(i) {
  if (!i.listeners?.length) return state('quiet', t('switched off'))
  return i.listeners.map(l => h('div', null, l.open ? state('good', l.address) : state('bad', `${l.address}: ${l.error ?? ''}`)))
}

// gather has the ends of each tunnel, sorted: answers has what endpoints say, by their ID; the rest is
// what they offer. An end without x is known by its name alone.
export function gather(endpoints, answers) {
  const all = new Map()
  const add = (name, side, end) => {
    if (!all.has(name)) all.set(name, { name, entrances: [], exits: [] })
    all.get(name)[side].push(end)
  }
  for (const e of endpoints) {
    const said = answers[e.id]?.tunnels, told = new Set()
    for (const x of said?.inbound ?? []) add(key(x), 'entrances', { at: e, x })
    for (const x of said?.outbound ?? []) {
      told.add(key(x))
      add(key(x), 'exits', { at: e, x })
    }
    for (const offer of e.offers ?? []) {
      const name = offer.replace(/^tunnel\//, '')
      if (/^tunnel\/(tcp|udp)\//.test(offer) && !told.has(name)) add(name, 'exits', { at: e, error: answers[e.id]?.error })
    }
  }
  return [...all.values()].sort((a, b) => a.name < b.name ? -1 : 1)
}

// picture draws all tunnels; live is what the chosen endpoint says now.
export function picture(endpoints, at, live) {
  if (asked.of !== mesh().name) queueMicrotask(() => ask(endpoints))
  const answers = asked.of === mesh().name ? { ...asked.answers } : {}
  if (live) answers[at.id] = { tunnels: live }
  const all = gather(endpoints, answers)
  return [
    h('h2', null, t('Both ends of each tunnel')),
    all.length ? all.map(x => h('details', { key: 'ends ' + x.name, class: 'ends', open: all.length <= FOLD },
      h('summary', null, h('strong', null, x.name), ' ', t('{entrances} in, {exits} out', { entrances: number(x.entrances.length), exits: number(x.exits.length) })),
      h('div', { class: 'sides' }, side(t('Entrances'), x.entrances, entrance, t('No endpoint of {user} has an entrance.', mesh().agent)), between(x),
        side(t('Exits'), x.exits, exit, t('No endpoint offers it.'))))) : h('p', { class: 'quiet' }, t('There is no tunnel.')),
    h('div', { class: 'bar' }, button(asked.busy ? t('Working…') : t('Ask the other endpoints'), () => ask(endpoints), { looks: true }),
      h('span', { class: 'quiet' }, asked.at ? t('Asked {ago}. {name} is shown as it is now.', { ago: ago(asked.at), name: at.name }) : '')),
    endpoints.filter(e => answers[e.id]?.error).map(e => h('div', { key: 'silent ' + e.id }, state('bad', `${e.name}: ${answers[e.id].error}`))),
    line(command(ztm(), 'get', 'tunnel')),
  ]
}

function ours(e) { return e.user === mesh().agent.user && (e.online || e.local) }

function side(title, ends, body, empty) {
  const shown = ends.map(e => h('li', { key: e.at.id, class: 'card' },
    ours(e.at) ? h('button', { type: 'button', class: 'link', onclick: () => { chosen.endpoint = e.at.id; redraw() } }, e.at.name) : h('strong', null, e.at.name), ' ',
    h('span', { class: 'quiet' }, e.at.user), body(e)))
  return h('div', null, h('h3', null, title), ends.length ? h('ul', null, shown.slice(0, FOLD)) : state('quiet', empty),
    ends.length > FOLD ? h('details', null, h('summary', null, t('{n} more', { n: number(ends.length - FOLD) })), h('ul', null, shown.slice(FOLD))) : null)
}

// between is the mesh: how many flows go, and how they go from here.
function between(x) {
  const active = x.entrances.reduce((n, e) => n + e.x.stats.active, 0), moved = x.entrances.reduce((n, e) => n + e.x.stats.up + e.x.stats.down, 0)
  return h('div', { class: 'between' }, h('strong', null, t('Mesh')), h('div', null, t('Flows now: {n}', { n: number(active) })), h('div', null, size(moved)))
}

function entrance({ x }) {
  return [
    h('div', null, listeners(x)),
    x.exits?.length ? h('div', null, t('to {names}', { names: x.exits.slice(0, FOLD).map(nameOf).join(', ') })) : null,
    faults(x),
  ]
}

function exit({ at, x, error }) {
  if (!x) return h('div', null, error ? state('bad', error) : !at.online ? state('bad', t('offline')) : state('quiet', ours(at) ? t('Loading…') : t('its owner sees the targets')))
  return [
    x.off ? h('div', null, state('quiet', t('switched off'))) : null,
    x.health.slice(0, FOLD).map(target),
    x.health.length > FOLD ? h('div', null, t('{n} more', { n: number(x.health.length - FOLD) })) : null,
    at.local ? null : h('div', null, way(at)),
  ]
}

function target({ name, state: is, error }) {
  return h('div', null, error ? state('bad', `${name}: ${error}`) : is === 'untried' ? state('quiet', t('{name}: not tried yet', { name })) : state('good', name))
}

// ask has each endpoint of this user tell its tunnels. One that does not answer says why.
// Another mesh may be chosen meanwhile: where each is asked is fixed before.
async function ask(endpoints) {
  if (asked.busy) return
  const of = mesh().name
  const own = endpoints.filter(ours).map(e => ({ id: e.id, path: endpointPath(e.id, 'apps', 'tunnel', 'tunnels') }))
  const answers = asked.of === of ? asked.answers : {}
  Object.assign(asked, { of, busy: true, answers })
  const worker = async () => {
    for (let e = own.pop(); e; e = own.pop()) {
      answers[e.id] = await api('GET', e.path).then(tunnels => ({ tunnels }), error => ({ error: error.message }))
      redraw()
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  Object.assign(asked, { busy: false, at: new Date().toISOString() })
  redraw()
}
