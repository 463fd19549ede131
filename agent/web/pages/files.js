// Files of an endpoint. What is fetched is saved, and never shown: a page that a peer wrote does not
// run here.

import { agent, open, redraw, use } from './agent.js'
import { h } from './dom.js'
import { mesh, meshPath, ztm } from './mesh.js'
import { answerOf, button, command, failure, line, save, table } from './parts.js'
import { play } from './terminal.js'
import { fetchFile, sendFile } from './transfer.js'
import { date, size, t } from './words.js'

const at = { ep: '', path: '~', rows: null, error: null, loading: '', progress: null, rest: null }

export function files(query) {
  if (query.get('ep') && at.asked !== query.get('ep')) Object.assign(at, { asked: query.get('ep'), ep: query.get('ep'), path: '~', rows: null, error: null })
  const all = use(meshPath('endpoints') + '?online=true&limit=200')
  const ep = at.ep || mesh().agent.id
  const wanted = ep + ' ' + at.path
  if (at.loading !== wanted) load(ep, wanted)
  const name = all?.body?.find?.(e => e.id === ep)?.name ?? ep
  return [
    h('form', { class: 'bar', onsubmit: e => { e.preventDefault(); go(e.target.elements.path.value) } },
      answerOf(all, rows => h('label', null, t('Endpoint'), ' ', h('select', { value: ep, onchange: e => { Object.assign(at, { ep: e.target.value, path: '~', rows: null }); redraw() } },
        rows.map(e => h('option', { value: e.id }, e.name))))),
      h('label', { class: 'grow' }, t('Path'), ' ', h('input', { name: 'path', key: 'path ' + at.path, value: at.path, spellcheck: 'false' })),
      h('button', { type: 'submit' }, t('Go')), h('button', { type: 'button', onclick: () => go(parent(at.path)) }, t('Up')),
      button(t('Upload'), upload, { class: 'main' })),
    at.progress ? h('p', { role: 'status' }, at.progress.name, ' ', h('progress', { max: at.progress.all || 1, value: at.progress.done, 'aria-label': t('Progress') }), ' ', `${size(at.progress.done)} / ${size(at.progress.all)}`) : null,
    at.error ? failure(at.error) : null,
    at.error && at.rest ? button(t('Go on where it stopped'), at.rest) : null,
    at.rows ? table([
      { head: t('Name'), cell: f => f.type === 'directory' ? h('button', { type: 'button', class: 'link', onclick: () => go(join(at.path, f.name)) }, f.name + '/') : label(f) },
      { head: t('Size'), cell: f => f.type === 'directory' ? '–' : size(f.size), number: true },
      { head: t('Date'), cell: f => date(f.time) },
      { head: '', cell: f => f.type === 'file' && typeof f.name === 'string' ? h('div', { class: 'actions' }, button(t('Save'), () => download(ep, f)), f.name.endsWith('.cast') && agent.terminal ? button(t('Play'), () => replay(ep, f)) : null) : null },
    ], at.rows, { label: t('Files'), key: f => JSON.stringify(f.name), empty: t('This directory is empty.') }) : at.error ? null : h('p', { role: 'status' }, t('Loading…')),
    line(command(ztm(), 'file', 'ls', `${name}:${at.path}`)),
  ]
}

function label(f) { return typeof f.name === 'string' ? f.name : t('(a name that is no text)') }

function join(path, name) { return path.replace(/\/$/, '') + '/' + name }

function parent(path) {
  const up = path.replace(/\/[^/]*\/?$/, '')
  return up === path || up === '' ? '/' : up
}

function go(path) {
  Object.assign(at, { path: path || '~', rows: null, error: null, loading: '' })
  redraw()
}

async function load(ep, wanted) {
  at.loading = wanted
  try {
    const rows = await listing(ep, at.path)
    if (at.loading === wanted) Object.assign(at, { rows, error: null })
  } catch (error) {
    if (at.loading === wanted) Object.assign(at, { rows: null, error })
  }
  redraw()
}

// listing reads lines of JSON, of which the last says that it is complete.
async function listing(ep, path) {
  const flow = await open(mesh().name, ep, 'file/list', { path })
  const decoder = new TextDecoder(), rows = []
  let rest = ''
  for (;;) {
    const p = await flow.read()
    rest += p ? decoder.decode(p, { stream: true }) : ''
    const lines = rest.split('\n')
    rest = lines.pop()
    for (const l of lines) {
      const f = JSON.parse(l)
      if (f.end) {
        flow.close()
        return rows.sort((a, b) => (b.type === 'directory') - (a.type === 'directory') || String(a.name).localeCompare(String(b.name)))
      }
      rows.push(f)
    }
    if (!p) throw new Error(t('The list is not complete.'))
  }
}

async function transfer(name, f) {
  Object.assign(at, { progress: { name, done: 0, all: 0 }, error: null, rest: null })
  redraw()
  try {
    await f((done, all) => { at.progress = { name, done, all }; redraw() })
  } catch (error) {
    at.error = error
  }
  at.progress = null
  redraw()
}

function download(ep, f) {
  return transfer(f.name, async progress => save(f.name, await fetchFile(mesh().name, ep, join(at.path, f.name), progress)))
}

// replay plays a recording of a terminal: the one kind of file that is shown.
function replay(ep, f) {
  return transfer(f.name, async progress => {
    const blobs = await fetchFile(mesh().name, ep, join(at.path, f.name), progress)
    await play(f.name, await new Blob(blobs).text())
    location.hash = '#/terminal'
  })
}

function upload() {
  const input = document.createElement('input')
  input.type = 'file'
  input.multiple = true
  input.onchange = () => uploadAll([...input.files], at.ep || mesh().agent.id, at.path)
  input.click()
}

// uploadAll sends files one after another. After a failure a button goes on with that one; what was sent
// of it is not sent again.
async function uploadAll(list, ep, directory) {
  for (const [i, f] of list.entries()) {
    await transfer(f.name, progress => sendFile(mesh().name, ep, directory, f, progress))
    if (!at.error) continue
    at.rest = () => uploadAll(list.slice(i), ep, directory)
    return redraw()
  }
  at.loading = ''
  redraw()
}
