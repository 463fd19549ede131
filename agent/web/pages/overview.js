import { api, data, redraw, use } from './agent.js'
import { h } from './dom.js'
import { mesh, meshPath, endpointPath, ztm } from './mesh.js'
import { answerOf, button, command, dialog, line, state, table, way } from './parts.js'
import { picture } from './topology.js'
import { ago, milliseconds, number, size, t } from './words.js'

const rates = [] // bytes per second that were measured last

export function overview() {
  const m = mesh()
  const endpoints = use(meshPath('endpoints') + '?limit=1000')
  const hubs = use(meshPath('hubs'))
  const stats = use(endpointPath(m.agent.id, 'stats'))
  const all = endpoints?.status === 200 ? endpoints.body : []
  measure(stats)
  return [
    h('section', { class: 'cards' },
      card(t('Connection'), m.status === 'connected' ? state('good', t('connected')) : state(m.status === 'error' ? 'bad' : 'busy', m.status === 'error' ? t('not connected') : t('connecting')),
        t('as {name}, user {user}', { name: m.agent.name, user: m.agent.user })),
      card(t('Endpoints'), t('{online} of {all} online', { online: number(all.filter(e => e.online).length), all: number(all.length) }),
        all.length >= 1000 ? t('the first 1,000') : ''),
      card(t('Traffic of this endpoint'), rates.length ? t('{rate} per second', { rate: size(rates.at(-1)) }) : '–', spark(),
        stats?.body?.active !== undefined ? t('Flows now: {n}', { n: number(stats.body.active) }) : '')),
    problems(m, hubs?.body, all),
    h('section', null, h('h2', null, t('Topology')), answerOf(endpoints, () =>
      picture(Array.isArray(hubs?.body) ? hubs.body : [], all, flows(stats), n => { location.hash = n.folded ? '#/endpoints?user=' + encodeURIComponent(n.user) : '#/endpoints/' + n.id })),
      table([
        { head: t('Name'), cell: e => h('a', { href: '#/endpoints/' + e.id }, e.name) },
        { head: t('User'), cell: e => e.user },
        { head: t('State'), cell: e => e.online ? state('good', e.local ? t('this one') : t('online')) : state('quiet', t('offline')) },
        { head: t('Way'), cell: e => e.online ? way(e) : '–' },
        { head: t('Flows'), cell: e => number(flows(stats)[e.id] ?? 0), number: true },
      ], all.slice(0, 50), { label: t('Endpoints'), key: e => e.id })),
    h('section', null, h('h2', null, t('Hubs')), answerOf(hubs, list => table([
      { head: t('Address'), cell: x => x.address },
      { head: t('State'), cell: x => state({ attached: 'good', standby: 'good', draining: 'busy' }[x.status] ?? 'bad', word(x.status)) },
      { head: t('Round trip'), cell: x => milliseconds(x.rtt), number: true },
      { head: t('Agents'), cell: x => number(x.agents), number: true },
      { head: t('Version'), cell: x => x.version ?? '–' },
    ], list, { label: t('Hubs') })), line(command(ztm(), 'get', 'hub'))),
    h('section', null, h('h2', null, t('What I can open')), offers(all)),
  ]
}

function word(status) {
  return { attached: t('attached'), standby: t('standby'), draining: t('draining'), unreachable: t('unreachable') }[status] ?? status
}

function card(title, ...rest) { return h('div', { class: 'card' }, h('h2', null, title), rest.map(r => h('div', null, r))) }

// measure makes a rate of two counts.
function measure(stats) {
  const old = stats?.before
  if (!old?.body || stats.measured || stats.status !== 200) return
  stats.measured = true
  const seconds = (stats.at - old.at) / 1000
  const moved = stats.body.sent + stats.body.received - old.body.sent - old.body.received
  if (seconds > 0 && moved >= 0) rates.push(moved / seconds)
  if (rates.length > 60) rates.shift()
}

function spark() {
  const most = Math.max(...rates, 1)
  const points = rates.map((r, i) => `${(i * 2).toFixed(0)},${(28 - 26 * r / most).toFixed(1)}`).join(' ')
  return h('svg', { class: 'spark', viewBox: '0 0 120 30', 'aria-hidden': 'true' }, h('polyline', { points }))
}

function flows(stats) {
  const out = {}
  for (const [id, p] of Object.entries(stats?.body?.peers ?? {})) out[id] = p.active
  return out
}

// problems says what is wrong now, and what helps.
function problems(m, hubs, all) {
  const tunnels = data(endpointPath(m.agent.id) + '/apps/tunnel/tunnels')
  const found = []
  if (m.error) found.push([t('This endpoint is not connected: {reason}', { reason: m.error }), command(ztm(), 'get', 'hub')])
  for (const x of Array.isArray(hubs) ? hubs : []) if (x.status === 'unreachable') found.push([t('Hub {address} is unreachable: {reason}', { address: x.address, reason: x.error ?? '' }), command(ztm(), 'describe', 'hub', x.address)])
  for (const i of tunnels?.inbound ?? []) {
    for (const l of i.listeners ?? []) if (l.error) found.push([t('Tunnel {name} does not listen: {reason}', { name: key(i), reason: l.error }), command(ztm(), 'describe', 'tunnel', 'inbound', key(i))])
  }
  const days = (new Date(m.agent.notAfter) - Date.now()) / 86400e3
  if (days < 2) found.push([t('The certificate of this endpoint ends {when}.', { when: ago(m.agent.notAfter) }), command(ztm(), 'describe', 'mesh', m.name)])
  return h('section', null, h('h2', null, t('What is wrong now')), found.length
    ? h('ul', { class: 'problems' }, found.map(([text, cmd]) => h('li', null, state('bad', text), line(cmd))))
    : state('good', t('Nothing that this endpoint knows of.')))
}

export function key(tunnel) { return `${tunnel.protocol}/${tunnel.name}` }

// offers are the tunnels that other endpoints have out.
function offers(all) {
  const rows = []
  for (const e of all) for (const o of e.offers ?? []) if (o.startsWith('tunnel/') && e.online) rows.push({ e, name: o.slice(7) })
  return table([
    { head: t('Tunnel'), cell: r => r.name },
    { head: t('At'), cell: r => h('a', { href: '#/endpoints/' + r.e.id }, r.e.name) },
    { head: t('User'), cell: r => r.e.user },
    { head: '', cell: r => h('a', { href: '#/tunnels?open=' + encodeURIComponent(r.name) }, t('Open here')) },
  ], rows.slice(0, 100), { label: t('What I can open'), empty: t('Nobody offers a tunnel yet.') })
}

// welcome is for an agent that is in no mesh.
export function welcome() {
  return h('section', { class: 'welcome' }, h('h1', null, t('This device is in no mesh yet')),
    h('p', null, t('Ask somebody of the mesh for an invitation. It is a file, or a text to paste.')),
    button(t('Join a mesh'), join, { class: 'main' }), line('ztm join MESH --as NAME --permit FILE'))
}

export function join() {
  dialog({
    title: t('Join a mesh'),
    fields: [
      { name: 'mesh', label: t('Name of the mesh, for this device'), required: true, example: 'home' },
      { name: 'as', label: t('Name of this device'), required: true, example: 'laptop' },
      { name: 'permit', label: t('Invitation'), kind: 'area', hint: t('Paste it, or choose its file below.') },
      { name: 'file', label: t('File'), kind: 'file' },
      { name: 'replace', label: t('Take the name from another device of mine'), kind: 'check' },
    ],
    command: v => command('ztm', 'join', v.mesh || 'MESH', '--as', v.as || 'NAME', '--permit', v.file?.name ?? 'FILE', v.replace && '--replace'),
    submit: async v => {
      const text = v.file ? await v.file.text() : v.permit
      try { JSON.parse(text) } catch { throw new Error(t('This is no invitation: it is not complete.')) }
      const warnings = []
      await api('POST', '/api/meshes/' + encodeURIComponent(v.mesh), `{"name":${JSON.stringify(v.as)},"replace":${v.replace},"permit":${text}}`, w => warnings.push(w))
      redraw()
      return warnings.length ? h('p', null, warnings.join(' ')) : null
    },
  })
}

