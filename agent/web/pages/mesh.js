// Which mesh and which endpoint the pages are about.

import { api, data, redraw } from './agent.js'
import { h } from './dom.js'
import { t } from './words.js'

export const chosen = { mesh: '', endpoint: '' }

export function meshes() { return data('/api/meshes') }

// mesh is the one that was chosen, or the first.
export function mesh() {
  const all = meshes() ?? []
  return all.find(m => m.name === chosen.mesh) ?? all[0]
}

export function meshPath(...below) {
  return ['/api/meshes', mesh().name, ...below].map((s, i) => i ? encodeURIComponent(s) : s).join('/')
}

export function endpointPath(id, ...below) { return meshPath('endpoints', id, ...below) }

// appPath is the API of an app at the chosen endpoint.
export function appPath(path) { return endpointPath(endpoint().id) + '/apps/' + path }

// mine are the endpoints of this user that can be managed from here.
export function mine() {
  const all = data(meshPath('endpoints') + '?user=' + encodeURIComponent(mesh().agent.user)) ?? []
  return all.length ? all : [self()]
}

export function self() {
  const m = mesh()
  return { id: m.agent.id, name: m.agent.name, user: m.agent.user, local: true, online: m.status === 'connected' }
}

export function endpoint() {
  return mine().find(e => e.id === chosen.endpoint) ?? self()
}

// ztm is the beginning of a command about the chosen mesh, and about the chosen endpoint if at is
// true.
export function ztm(at) {
  const words = ['ztm'], several = (meshes() ?? []).length > 1, ep = at ? endpoint() : null
  if (ep && !ep.local) words.push('ep', several ? `${mesh().name}/${ep.name}` : ep.name)
  else if (several) words.push('mesh', mesh().name)
  return words
}

// chooser chooses the endpoint.
export function chooser() {
  const all = mine()
  if (all.length < 2) return null
  return h('label', { class: 'chooser' }, t('Endpoint'), ' ', h('select', {
    value: endpoint().id, onchange: e => { chosen.endpoint = e.target.value; redraw() },
  }, all.map(e => h('option', { value: e.id, disabled: !e.online && !e.local }, e.online || e.local ? e.name : t('{name} (offline)', { name: e.name })))))
}

// nameOf is the name of an endpoint by its ID.
export function nameOf(id) {
  const all = data(meshPath('endpoints') + '?limit=1000') ?? []
  return all.find(e => e.id === id)?.name ?? String(id).slice(0, 8) + '…'
}

// trusted finds the endpoint to which what is typed will be sent, as the command line does: a name
// belongs to the endpoint that had it when it was used first.
export async function trusted(name) {
  return await api('POST', meshPath('names', name), {})
}

