import { redraw, use } from './agent.js'
import { h } from './dom.js'
import { chooser, endpoint, endpointPath, ztm } from './mesh.js'
import { answerOf, command, line, state, table } from './parts.js'
import { date, number, size, t } from './words.js'

const filter = { user: '', refused: false }
const MOST = 200

// audit is who reached what at an endpoint, and who was refused. The newest line is the first.
export function audit() {
  const q = new URLSearchParams()
  if (filter.user) q.set('user', filter.user)
  if (filter.refused) q.set('refused', 'true')
  return [
    h('div', { class: 'bar' }, chooser(),
      h('label', null, t('User'), ' ', h('input', { value: filter.user, oninput: e => { filter.user = e.target.value.trim(); redraw() } })),
      h('label', null, h('input', { type: 'checkbox', checked: filter.refused, onchange: e => { filter.refused = e.target.checked; redraw() } }), ' ', t('only what was refused or cut'))),
    answerOf(use(endpointPath(endpoint().id, 'audit') + (q.size ? '?' + q : '')), lines => table([
      { head: t('When'), cell: l => date(l.time) },
      { head: t('Who'), cell: l => [l.user, l.peer].filter(Boolean).join(' @ ') || '–' },
      { head: t('What'), cell: l => [l.event, l.app, l.target].filter(Boolean).join(' ') },
      { head: t('Result'), cell: l => state({ ok: 'good', no: 'bad', cut: 'bad' }[l.result] ?? 'quiet', [result(l.result), l.reason, l.rule].filter(Boolean).join(', ')) },
      { head: t('Bytes'), cell: l => l.in || l.out ? size((l.in ?? 0) + (l.out ?? 0)) : l.count ? '× ' + number(l.count) : '', number: true },
    ], lines.slice(-MOST).reverse(), { label: t('Audit'), key: l => l.seq, empty: t('Nothing was recorded since the agent started.') })),
    line(command(ztm(true), 'audit', filter.user && ['--user', filter.user], filter.refused && '--refused')),
  ]
}

function result(word) { return { ok: t('ok'), no: t('refused'), cut: t('cut') }[word] ?? word }
