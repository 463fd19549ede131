package file

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// Right is that a user may reach something at an endpoint, or is in a group, which rules of owners may
// name, or has access at all. [policy.Anybody] stands for all.
type Right struct {
	User string `json:"user"`
	To   string `json:"to"`             // of a membership the term of the group; see [access]
	At   string `json:"at"`             // "" of a membership, and of access
	From string `json:"from,omitempty"` // terms, if not from everywhere
}

// access is what a user has as a whole, whatever it is that rules and grants give them. It stands in the
// list for users whose access has an end by one of the two policies.
const access = "access"

func (r Right) String() string {
	switch {
	case r.To == access:
		return r.User + " at all"
	case r.At == "":
		return fmt.Sprintf("%s in %s", r.User, r.To)
	}
	out := fmt.Sprintf("%s to %s at %s", r.User, r.To, r.At)
	if r.From != "" {
		out += " from " + r.From
	}
	return out
}

// Change is a right that one policy gives and another does not, or gives for another time.
type Change struct {
	Right
	Grant string `json:"grant"`         // "" of a membership
	Was   string `json:"was,omitempty"` // the end before, if there was one
	Until string `json:"until,omitempty"`
}

// Difference is what a new policy gives and takes.
type Difference struct {
	Gains  []Change `json:"gains"`
	Losses []Change `json:"losses"`
	Warns  []string `json:"warnings"` // what a person should look at before it is applied
}

// maxRights is how many rights of one policy are compared.
const maxRights = 1_000_000

// held is by which grant a right is held, and until when; 0 is for good.
type held struct {
	grant string
	until unixtime.Seconds
}

// lasting is the order of ends: no end is the latest.
func lasting(until unixtime.Seconds) unixtime.Seconds {
	if until == 0 {
		return 1<<63 - 1
	}
	return until
}

// Diff compares what two policies give at a time, in Unix seconds. What is over is given to nobody.
func Diff(old, next *policy.Source, now unixtime.Seconds) (Difference, error) {
	d := Difference{Gains: []Change{}, Losses: []Change{}}
	apart := usersApart(old, next)
	before, err := expand(old, apart, now)
	if err != nil {
		return d, err
	}
	after, err := expand(next, apart, now)
	if err != nil {
		return d, err
	}
	d.Gains = changes(after, before, apart)
	for _, c := range changes(before, after, apart) {
		c.Was, c.Until = c.Until, c.Was
		d.Losses = append(d.Losses, c)
	}
	d.Warns = slices.Concat(warnings(next, after), moved(old, next), bounded(old, next))
	if old.Direct != next.Direct {
		d.Warns = append(d.Warns, fmt.Sprintf("direct paths: %s, and %s before", cmp.Or(next.Direct, "auto"), cmp.Or(old.Direct, "auto")))
	}
	if n := len(users(d.Gains)); n > max(10, len(next.Users)/10) {
		d.Warns = append(d.Warns, fmt.Sprintf("%d users gain something", n))
	}
	return d, nil
}

// usersApart are the users whose access ends as a whole by one of two policies. What everybody has, they
// have until then: they are listed by name beside everybody.
func usersApart(sources ...*policy.Source) map[string]bool {
	out := map[string]bool{}
	for _, s := range sources {
		for user, u := range s.Users {
			if u.Until != 0 {
				out[user] = true
			}
		}
	}
	return out
}

// changes lists the rights of a that b does not give, or gives for a shorter time.
func changes(a, b map[Right]held, apart map[string]bool) []Change {
	out := []Change{}
	for r, h := range a {
		other, covered := longest(b, r, apart)
		if covered && lasting(other.until) >= lasting(h.until) {
			continue
		}
		if apart[r.User] && everybody(a, b, r) {
			continue
		}
		c := Change{Right: r, Grant: h.grant, Until: end(h.until)}
		if covered {
			c.Was = end(other.until)
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(x, y Change) int {
		return cmp.Or(cmp.Compare(x.User, y.User), cmp.Compare(x.To, y.To), cmp.Compare(x.At, y.At), cmp.Compare(x.From, y.From))
	})
	return out
}

// everybody reports whether a right is everybody's in a and not in b: it stands in the list as that.
func everybody(a, b map[Right]held, r Right) bool {
	r.User = policy.Anybody
	_, here := a[r]
	_, there := longest(b, r, nil)
	return here && !there
}

// longest returns by what a right is held longest: as it is, or as a part of one that is wider.
func longest(all map[Right]held, r Right, apart map[string]bool) (best held, found bool) {
	app, _, _ := strings.Cut(r.To, "/")
	users := []string{r.User, policy.Anybody}
	if apart[r.User] {
		users = users[:1]
	}
	for _, user := range users {
		for _, at := range []string{r.At, policy.Anybody} {
			for _, to := range []string{r.To, app} {
				for _, from := range []string{r.From, ""} {
					if h, ok := all[Right{user, to, at, from}]; ok && (!found || lasting(h.until) > lasting(best.until)) {
						best, found = h, true
					}
				}
			}
		}
	}
	return best, found
}

// expand lists all rights that a policy gives.
func expand(s *policy.Source, apart map[string]bool, now unixtime.Seconds) (map[Right]held, error) {
	out := map[Right]held{}
	for user := range apart {
		if until := s.Users[user].Until; lasting(until) > now {
			out[Right{User: user, To: access}] = held{until: until}
		}
	}
	memberships(s, now, out)
	for i := range s.Grants {
		g := &s.Grants[i]
		who, at, from := whoOf(s, g, apart, now), atOf(s, g), strings.Join(slices.Sorted(slices.Values(g.From)), ", ")
		if slices.Contains(g.From, policy.Anybody) {
			from = ""
		}
		if len(out)+len(who)*len(at)*len(g.To) > maxRights {
			return nil, fmt.Errorf("the policy gives more than %d rights: too many to compare", maxRights)
		}
		for user, until := range who {
			for _, ep := range at {
				for _, to := range g.To {
					r := Right{user, to, ep, from}
					if h, ok := out[r]; !ok || lasting(until) > lasting(h.until) {
						out[r] = held{g.Name, until}
					}
				}
			}
		}
	}
	return out, nil
}

// memberships adds who is in which group. One that no owner's rule may name is left out: what it means is
// in the grants.
func memberships(s *policy.Source, now unixtime.Seconds, to map[Right]held) {
	for name, g := range s.Groups {
		for _, m := range g.Members {
			until := m.Until
			if all := s.Users[m.User].Until; lasting(all) < lasting(until) {
				until = all
			}
			if g.Visible == "" && lasting(until) > now {
				to[Right{User: m.User, To: policy.GroupPrefix + name}] = held{until: until}
			}
		}
	}
}

// moved lists the endpoints that names and labels do not mean any longer as before: rules of owners and
// From of grants go by them, and are not compared.
func moved(old, next *policy.Source) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(old.Endpoints)) {
		was := old.Endpoints[name]
		is, known := next.Endpoints[name]
		labels := [2][]string{slices.Sorted(slices.Values(was.Labels)), slices.Sorted(slices.Values(is.Labels))}
		switch {
		case !known:
			out = append(out, fmt.Sprintf("endpoint %s goes: no grant and no label means it any longer", name))
		case was.ID != is.ID:
			out = append(out, fmt.Sprintf("endpoint %s is another device than before: %s", name, is.ID))
		case !slices.Equal(labels[0], labels[1]):
			out = append(out, fmt.Sprintf("endpoint %s has the labels %v, and %v before", name, labels[1], labels[0]))
		}
	}
	return out
}

// bounded lists the groups whose bounds are others than before: who is in them says nothing of that.
func bounded(old, next *policy.Source) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(old.Groups)) {
		was := old.Groups[name]
		is, known := next.Groups[name]
		if !known {
			continue
		}
		for _, field := range []struct{ name, was, is string }{
			{"max", longestOf(was), longestOf(is)},
			{"notify", fmt.Sprint(was.Notify), fmt.Sprint(is.Notify)},
			{"visible", cmp.Or(was.Visible, "all"), cmp.Or(is.Visible, "all")},
		} {
			if field.was != field.is {
				out = append(out, fmt.Sprintf("group %s: %s is %s, and %s before", name, field.name, field.is, field.was))
			}
		}
	}
	return out
}

func longestOf(g policy.Group) string {
	if g.Max == 0 {
		return "none"
	}
	return g.Longest().String()
}

// whoOf lists the users of a grant and until when each has it.
func whoOf(s *policy.Source, g *policy.Grant, apart map[string]bool, now unixtime.Seconds) map[string]unixtime.Seconds {
	out := map[string]unixtime.Seconds{}
	add := func(user string, ends ...unixtime.Seconds) {
		until := unixtime.Seconds(0)
		for _, e := range append(ends, g.Until, s.Users[user].Until) {
			if lasting(e) < lasting(until) {
				until = e
			}
		}
		if h, ok := out[user]; lasting(until) > now && (!ok || lasting(until) > lasting(h)) {
			out[user] = until
		}
	}
	for _, w := range g.Who {
		group, isGroup := strings.CutPrefix(w.Name, policy.GroupPrefix)
		if !isGroup {
			add(w.Name)
			for user := range apart {
				if w.Name == policy.Anybody {
					add(user)
				}
			}
			continue
		}
		for _, m := range s.Groups[group].Members {
			add(m.User, m.Until)
		}
	}
	return out
}

// atOf lists the endpoints of a grant.
func atOf(s *policy.Source, g *policy.Grant) []string {
	set := map[string]bool{}
	for _, t := range g.At {
		labels, isLabel := strings.CutPrefix(t, policy.LabelPrefix)
		if !isLabel {
			set[t] = true
			continue
		}
		for name, e := range s.Endpoints {
			if hasAll(e.Labels, strings.Split(labels, "+")) {
				set[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func hasAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(l string) bool { return !slices.Contains(have, l) })
}

func end(until unixtime.Seconds) string {
	if until == 0 {
		return "for good"
	}
	return unixtime.Text(until.Time())
}

func users(all []Change) map[string]bool {
	out := map[string]bool{}
	for _, c := range all {
		out[c.User] = true
	}
	return out
}

// warnings are what is right to write, and seldom meant.
func warnings(s *policy.Source, all map[Right]held) []string {
	out := []string{}
	used := map[string]bool{}
	for _, h := range all {
		used[h.grant] = true
	}
	for _, g := range s.Grants {
		if slices.ContainsFunc(g.Who, func(w policy.Who) bool { return w.Name == policy.Anybody }) {
			out = append(out, fmt.Sprintf("the grant %s is for every user of the mesh", g.Name))
		}
		if slices.Contains(g.At, policy.Anybody) {
			out = append(out, fmt.Sprintf("the grant %s is for every endpoint", g.Name))
		}
		if !used[g.Name] {
			out = append(out, fmt.Sprintf("the grant %s gives nobody anything that no other grant does", g.Name))
		}
	}
	return out
}
