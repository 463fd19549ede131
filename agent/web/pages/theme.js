// Light or dark: as the system has it, or as a person has chosen.

export function theme() { return localStorage.getItem('ztm-theme') ?? '' }

export function chooseTheme(name) {
  localStorage.setItem('ztm-theme', name)
  applyTheme()
}

export function applyTheme() { document.documentElement.dataset.theme = theme() }
