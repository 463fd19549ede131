// The frame of all pages: the way in, the navigation, and which page is shown.

import { agent, drawn, onChange, redraw, signIn, use } from './agent.js'
import { apps } from './apps.js'
import { audit } from './audit.js'
import { cloud } from './cloud.js'
import { draw, h } from './dom.js'
import { endpointPage, endpoints } from './endpoints.js'
import { files } from './files.js'
import { chosen, mesh, meshes } from './mesh.js'
import { overview, welcome } from './overview.js'
import { answerOf, dialogs, line, state } from './parts.js'
import { policy } from './policy.js'
import { proxy } from './proxy.js'
import { script } from './script.js'
import { applyTheme, settings } from './settings.js'
import { terminals } from './terminal.js'
import { tunnels } from './tunnels.js'
import { users } from './users.js'
import { t } from './words.js'

// pages are the entries of the navigation: path, title, what draws it.
const pages = [
  ['', () => t('Overview'), overview],
  ['endpoints', () => t('Endpoints'), (query, rest) => rest ? endpointPage(rest) : endpoints(query)],
  ['tunnels', () => t('Tunnels'), tunnels],
  ['proxy', () => t('Proxy'), proxy],
  ['terminal', () => t('Terminal'), terminals],
  ['script', () => t('Script'), script],
  ['files', () => t('Files'), files],
  ['cloud', () => t('Cloud'), cloud],
  ['apps', () => t('Apps'), apps],
  ['users', () => t('Users'), users],
  ['policy', () => t('Policy'), policy],
  ['audit', () => t('Audit'), audit],
  ['settings', () => t('Settings'), settings],
]

// route reads the address: #/PAGE/REST?QUERY.
function route() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?')
  const [name, ...rest] = path.split('/')
  return { page: pages.find(p => p[0] === name) ?? pages[0], rest: rest.join('/'), query: new URLSearchParams(query) }
}

let waiting = false

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
    agent.state === 'ended' ? ended() : agent.state === 'starting' ? null : [header(page), banner(), h('main', { id: 'content', tabindex: '-1' }, h('div', { key: page[0] + rest }, content(page, rest, query)))],
    dialogs(),
  ])
  drawn()
}

function content(page, rest, query) {
  return answerOf(use('/api/meshes'), all => {
    if (page[0] === 'settings') return page[2](query, rest)
    return all.length ? page[2](query, rest) : welcome()
  })
}

function header(page) {
  const all = meshes() ?? []
  return h('header', null,
    h('a', { class: 'brand', href: '#/' }, 'ztm'),
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
