// Languages. A key is the English sentence; zh.js has the Chinese one. A test finds keys that a
// language does not have, and those that nobody uses.

// sentences of a language; those of another than English are loaded when they are needed.
const languages = { en: () => ({}), zh: () => import('./zh.js').then(m => m.zh) }

function preferred() {
  const kept = localStorage.getItem('ztm-language')
  if (kept in languages) return kept
  return navigator.languages.some(l => l.toLowerCase().startsWith('zh')) ? 'zh' : 'en'
}

let language = preferred()
let sentences = await languages[language]()
document.documentElement.lang = language === 'zh' ? 'zh-Hans' : 'en'

export function chosenLanguage() { return language }

export async function chooseLanguage(l) {
  localStorage.setItem('ztm-language', l)
  sentences = await languages[l]()
  language = l
  document.documentElement.lang = l === 'zh' ? 'zh-Hans' : 'en'
}

// t is a sentence in the language of the page. {name} in it stands for a value.
export function t(sentence, values) {
  const text = sentences[sentence] ?? sentence
  return values ? text.replace(/\{(\w+)\}/g, (all, name) => name in values ? values[name] : all) : text
}

function locale() { return document.documentElement.lang }

export function number(n) { return new Intl.NumberFormat(locale()).format(n) }

// size is a number of bytes for people.
export function size(n) {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte']
  let i = 0
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1000
  if (!i) return number(n) + '\u00a0B' // where this is short, English has "byte", or no space
  return new Intl.NumberFormat(locale(), { style: 'unit', unit: units[i], unitDisplay: 'short', maximumFractionDigits: n < 10 ? 1 : 0 }).format(n)
}

// milliseconds is a round trip.
export function milliseconds(ms) {
  if (!ms) return '–'
  return new Intl.NumberFormat(locale(), { style: 'unit', unit: 'millisecond', unitDisplay: 'short', maximumFractionDigits: ms < 10 ? 1 : 0 }).format(ms)
}

export function date(s) {
  if (!s || s.startsWith('0001')) return '–'
  return new Intl.DateTimeFormat(locale(), { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(s))
}

// ago is how long ago something was, or how long it will take.
export function ago(s) {
  if (!s || s.startsWith('0001')) return '–'
  let n = (new Date(s) - Date.now()) / 1000
  for (const [unit, length] of [['second', 60], ['minute', 60], ['hour', 24], ['day', 30], ['month', 12], ['year', Infinity]]) {
    if (Math.abs(n) < length) return new Intl.RelativeTimeFormat(locale(), { numeric: 'auto' }).format(Math.round(n), unit)
    n /= length
  }
}
