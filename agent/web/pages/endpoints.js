import { api, data, redraw, use } from './agent.js'
import { h } from './dom.js'
import { endpointPath, mesh, meshPath, ztm } from './mesh.js'
import { invite } from './users.js'
import { answerOf, button, command, confirm, dialog, failure, line, list, state, table, way } from './parts.js'
import { ago, date, milliseconds, number, size, t } from './words.js'

const PAGE = 100

const search = { text: '', typed: '', online: false, from: 0, timer: 0 }

export function endpoints(query) {
  const user = query.get('user') ?? ''
  const q = new URLSearchParams({ limit: PAGE + 1, offset: search.from })
  if (search.text) q.set('keyword', search.text)
  if (search.online) q.set('online', 'true')
  if (user) q.set('user', user)
  const found = use(meshPath('endpoints') + '?' + q)
  return [
    h('div', { class: 'bar' },
      h('input', { type: 'search', placeholder: t('Name or label'), 'aria-label': t('Search endpoints'), value: search.typed, oninput: typed }),
      h('label', null, h('input', { type: 'checkbox', checked: search.online, onchange: e => { Object.assign(search, { online: e.target.checked, from: 0 }); redraw() } }), ' ', t('online only')),
      user ? h('a', { href: '#/endpoints' }, t('User {user}', { user }), ' ✕') : null,
      h('span', { class: 'space' }), button(t('Invite'), () => invite(), { class: 'main' })),
    answerOf(found, rows => [
      table([
        { head: t('Name'), cell: e => h('a', { href: '#/endpoints/' + e.id }, e.name) },
        { head: t('User'), cell: e => e.user },
        { head: t('State'), cell: e => e.online ? state('good', e.local ? t('this one') : t('online')) : state('quiet', e.seen ? t('seen {when}', { when: ago(e.seen) }) : t('offline')) },
        { head: t('Way'), cell: e => e.online ? way(e) : '–' },
        { head: t('Labels'), cell: e => (e.labels ?? []).join(', ') },
        { head: t('Version'), cell: e => e.version ?? '–' },
      ], rows.slice(0, PAGE), { label: t('Endpoints'), key: e => e.id, empty: t('No endpoint matches.') }),
      h('div', { class: 'bar' },
        search.from ? h('button', { type: 'button', onclick: () => { search.from = Math.max(0, search.from - PAGE); redraw() } }, t('Previous')) : null,
        rows.length > PAGE ? h('button', { type: 'button', onclick: () => { search.from += PAGE; redraw() } }, t('Next')) : null),
    ]),
    line(command(ztm(), 'get', 'ep')),
  ]
}

// typed searches once the typing pauses: the hub looks, not this page.
function typed(e) {
  search.typed = e.target.value
  clearTimeout(search.timer)
  search.timer = setTimeout(() => { Object.assign(search, { text: search.typed.trim(), from: 0 }); redraw() }, 200)
}

const pings = {} // by ID: hops, or a failure

// reached says where a direct way leads, and since when there is one.
function reached(route) {
  return route?.direct ? ` ${route.address}, ${t('since {time}', { time: date(route.since) })}` : ''
}

// datagrams says how flows of datagrams go that have a way of their own, or why they have none.
function datagrams(route) {
  return route.direct ? [way({ route }), reached(route)] : t('in the session: {why}', route)
}

export function endpointPage(id) {
  return answerOf(use(endpointPath(id)), e => {
    const own = e.user === mesh().agent.user
    return [
      h('p', null, h('a', { href: '#/endpoints' }, '← ', t('All endpoints'))),
      h('h1', null, e.name, ' ', e.online ? state('good', t('online')) : state('quiet', t('offline'))),
      h('dl', null, fact(t('ID'), h('code', null, e.id)), fact(t('User'), e.user), fact(t('Labels'), (e.labels ?? []).join(', ') || '–'),
        fact(t('Version'), e.version ?? '–'), fact(t('Address, as the hub sees it'), e.address ?? '–'), fact(t('Round trip'), milliseconds(e.rtt)), fact(t('Way'), [way(e), reached(e.route)]),
        e.route?.datagrams ? fact(t('Datagrams'), datagrams(e.route.datagrams)) : null,
        fact(t('Sealed sessions with it'), number(e.sessions ?? 0)), fact(t('Last contact'), e.online ? t('now') : date(e.seen)),
        fact(t('Offers'), (e.offers ?? []).join(', ') || '–')),
      h('div', { class: 'bar' },
        h('button', { type: 'button', onclick: () => ping(id) }, t('Ping')),
        h('a', { class: 'button', href: '#/terminal?ep=' + id }, t('Terminal')), h('a', { class: 'button', href: '#/files?ep=' + id }, t('Files')),
        own ? button(t('Labels'), () => labels(e)) : null,
        e.local ? null : button(t('Evict'), () => evict(e), { class: 'danger' })),
      hops(id), line(command(ztm(), 'describe', 'ep', e.name)),
      own ? [traffic(id), logOf(id, e)] : null,
    ]
  })
}

function fact(name, value) { return [h('dt', null, name), h('dd', null, value)] }

async function ping(id) {
  pings[id] = 'busy'
  redraw()
  pings[id] = await api('GET', endpointPath(id, 'ping')).catch(e => e)
  redraw()
}

function hops(id) {
  const p = pings[id]
  if (!p) return null
  if (p === 'busy') return h('p', { role: 'status' }, t('Working…'))
  if (!Array.isArray(p)) return failure(p)
  return h('ol', { class: 'hops', 'aria-label': t('Ping') }, p.map(x => h('li', null, x.name || x.id, ' ', x.route ? [way(x), ' '] : null, x.error ? state('bad', x.error) : x.rtt ? milliseconds(x.rtt) : t('this one'))))
}

function labels(e) {
  dialog({
    title: t('Labels'), fields: [{ name: 'labels', label: t('Labels, with commas between'), value: (e.labels ?? []).join(', ') }],
    command: v => {
      const now = list(v.labels), before = e.labels ?? [], more = now.filter(l => !before.includes(l)), less = before.filter(l => !now.includes(l))
      return command(e.local ? 'ztm' : ['ztm', 'ep', e.name], 'label', more.length && ['--add', more], less.length && ['--remove', less])
    },
    action: t('Save'),
    submit: v => api('POST', endpointPath(e.id, 'labels'), list(v.labels)).then(() => null),
  })
}

function evict(e) {
  confirm(t('Evict {name}', { name: e.name }), t('Endpoint {name} of user {user} loses all access at once, everywhere. It can come back only with a new invitation.', e),
    command(ztm(), 'evict', 'ep', e.name), () => api('DELETE', meshPath('devices', e.id)).then(() => { location.hash = '#/endpoints' }))
}

function traffic(id) {
  return h('section', null, h('h2', null, t('Traffic')), answerOf(use(endpointPath(id, 'stats')), s => [
    h('p', null, t('{sent} sent, {received} received; flows now: {n}', { sent: size(s.sent), received: size(s.received), n: number(s.active) })),
    table([
      { head: t('With'), cell: r => r.name || r.id },
      { head: t('Sent'), cell: r => size(r.sent), number: true },
      { head: t('Received'), cell: r => size(r.received), number: true },
      { head: t('Flows'), cell: r => number(r.active), number: true },
    ], Object.entries(s.peers ?? {}).map(([peer, p]) => ({ id: peer, ...p })), { label: t('Traffic') }),
  ]))
}

function logOf(id, e) {
  const lines = data(endpointPath(id, 'log'))
  return h('section', null, h('h2', null, t('Log')), lines ? h('div', { class: 'log', tabindex: '0', role: 'log', 'aria-label': t('Log') },
    lines.slice(-200).reverse().map(l => h('div', { class: l.level.toLowerCase() }, h('time', null, date(l.time)), ' ', l.level, ' ', l.message, ' ',
      Object.entries(l.attrs ?? {}).map(([k, v]) => `${k}=${v}`).join(' ')))) : null, line(command(ztm(), 'log', 'ep', e.name)))
}
