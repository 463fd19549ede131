package policy

import (
	"ztm/apps/reach"
)

// Visible returns the targets of which the user may reach anything, narrowed to what the rules let them reach. It may
// be wider than what [Policy.Permit] says in the end, where that depends on an address.
func (p *Policy) Visible(who Asker) []reach.Pattern {
	var out []reach.Pattern
	for _, t := range p.Targets {
		out = append(out, p.narrowed(who, t)...)
	}
	return reach.Distinct(out)
}

func (p *Policy) narrowed(who Asker, t reach.Pattern) []reach.Pattern {
	var out []reach.Pattern
	for _, r := range p.rules {
		if !r.about(who) {
			continue
		}
		for _, about := range r.targets {
			if whole := about.Covers(t); whole && r.allow {
				return append(out, t)
			} else if whole {
				return out
			}
			if both, ok := about.Meet(t); ok && r.allow {
				out = append(out, both)
			}
		}
	}
	if who.User == p.Owner {
		out = append(out, t)
	}
	return out
}
