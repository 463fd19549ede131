package exit

import (
	"slices"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
)

// Rule lists whom the rules that allow something name, for a destination. What they decide is for Lets
// to say: an earlier rule may deny.
func (e *Exit) Rule(dest string) ([]string, error) {
	if _, err := reach.ParseDest(dest); err != nil {
		return nil, answer.Errorf(answer.NotFound, "proxy: %v", err)
	}
	return e.Named(), nil
}

// Named lists whom the rules that allow something name, sorted.
func (e *Exit) Named() []string {
	var who []string
	for _, r := range e.policy().Rules() {
		if r.Action == "allow" {
			who = append(who, r.Users...)
		}
	}
	slices.Sort(who)
	return slices.Compact(who)
}

// Lets reports whether the rules let a peer reach a destination. Of a name it is whether they do for
// some address: nothing is resolved.
func (e *Exit) Lets(p apps.Peer, dest string) bool {
	d, err := reach.ParseDest(dest)
	if err != nil {
		return false
	}
	if d.Name == "" {
		return e.policy().Permit(e.asker(p), d, d.Addr) == nil
	}
	return e.policy().Screen(e.asker(p), d) == nil
}
