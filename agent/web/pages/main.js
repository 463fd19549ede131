// The frame of all pages: the way in, the navigation, and which page is shown.

import { agent, drawn, onChange, redraw, signIn, use } from './agent.js'
import { draw, h } from './dom.js'
import { chosen, mesh, meshes } from './mesh.js'
import { overview, welcome } from './overview.js'
import { answerOf, dialogs, failure, line, state } from './parts.js'
import { applyTheme } from './theme.js'
import { t } from './words.js'

// pages are the entries of the navigation: path, title, what draws it.
const pages = [
  ['', () => t('Overview'), overview],
  ['endpoints', () => t('Endpoints'), later(() => import('./endpoints.js'), (m, query, rest) => rest ? m.endpointPage(rest) : m.endpoints(query))],
  ['tunnels', () => t('Tunnels'), later(() => import('./tunnels.js'), (m, query) => m.tunnels(query))],
  ['proxy', () => t('Proxy'), later(() => import('./proxy.js'), m => m.proxy())],
  ['terminal', () => t('Terminal'), later(() => import('./terminal.js'), (m, query) => m.terminals(query))],
  ['script', () => t('Script'), later(() => import('./script.js'), m => m.script())],
  ['files', () => t('Files'), later(() => import('./files.js'), (m, query) => m.files(query))],
  ['cloud', () => t('Cloud'), later(() => import('./cloud.js'), m => m.cloud())],
  ['apps', () => t('Apps'), later(() => import('./apps.js'), m => m.apps())],
  ['users', () => t('Users'), later(() => import('./users.js'), m => m.users())],
  ['policy', () => t('Policy'), later(() => import('./policy.js'), m => m.policy())],
  ['audit', () => t('Audit'), later(() => import('./audit.js'), m => m.audit())],
  ['settings', () => t('Settings'), later(() => import('./settings.js'), m => m.settings())],
]

// later draws by a module that is loaded when it is first needed.
function later(load, show) {
  let module = null, failed = null, loading = false
  return (query, rest) => {
    if (module) return show(module, query, rest)
    if (!loading) {
      loading = true
      load().then(m => { module = m }, e => { failed = e }).then(redraw)
    }
    return failed ? failure(failed) : h('p', { class: 'quiet', role: 'status' }, t('Loading…'))
  }
}

// route reads the address: #/PAGE/REST?QUERY.
function route() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?')
  const [name, ...rest] = path.split('/')
  return { page: pages.find(p => p[0] === name) ?? pages[0], rest: rest.join('/'), query: new URLSearchParams(query) }
}

let waiting = false, shown = null

function plan() {
  if (waiting) return
  waiting = true
  requestAnimationFrame(() => { waiting = false; paint() })
}

function paint() {
  const { page, rest, query } = route()
  document.title = `${page[1]()} – ztm`
  draw(document.body, [
    h('a', { class: 'skip', href: '#content', onclick: e => { e.preventDefault(); document.getElementById('content').focus() } }, t('To the content')),
    agent.state === 'ended' ? ended() : agent.state === 'starting' ? h('header', null, brand()) : [header(page), banner(), h('main', { id: 'content', tabindex: '-1' }, h('div', { key: page[0] + rest }, content(page, rest, query)))],
    dialogs(),
  ])
  drawn()
  if (page !== shown) document.querySelector('nav [aria-current]')?.scrollIntoView({ inline: 'center', block: 'nearest' })
  shown = page
}

function content(page, rest, query) {
  return answerOf(use('/api/meshes'), all => {
    if (page[0] === 'settings') return page[2](query, rest)
    return all.length ? page[2](query, rest) : welcome()
  })
}

// brand is on the page before anything is loaded: index.html has the same.
function brand() { return h('a', { class: 'brand', href: '#/' }, 'ztm') }

function header(page) {
  const all = meshes() ?? []
  return h('header', null,
    brand(),
    all.length > 1 ? h('select', { 'aria-label': t('Mesh'), value: mesh().name, onchange: e => { Object.assign(chosen, { mesh: e.target.value, endpoint: '' }); redraw() } }, all.map(m => h('option', { value: m.name }, m.name)))
      : all.length ? h('span', { class: 'mesh' }, all[0].name) : null,
    h('nav', { 'aria-label': t('Pages') }, pages.map(p => h('a', { href: '#/' + p[0], 'aria-current': p === page ? 'page' : undefined }, p[1]()))),
    agent.readOnly ? h('span', { class: 'badge' }, t('only looks')) : null)
}

// banner says plainly when the agent is gone.
function banner() {
  if (agent.state === 'lost') return h('div', { class: 'banner', role: 'alert' }, state('bad', t('The agent does not answer. This page tries again by itself.')))
  return null
}

function ended() {
  return h('main', { id: 'content', tabindex: '-1', class: 'welcome' }, h('h1', null, t('This page is signed out')),
    agent.reason ? h('p', null, agent.reason) : null,
    h('p', null, t('Open it again from the command line of this machine:')), line('ztm console'))
}

addEventListener('hashchange', () => {
  if (location.hash.length > 1 && !location.hash.startsWith('#/')) signIn() // a new code was opened in this tab
  plan()
})
applyTheme()
onChange(plan)
plan()
signIn().catch(() => { agent.state = 'lost'; plan() })
