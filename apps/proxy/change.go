package proxy

import (
	"maps"
	"slices"

	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// apply makes the change. exits has the endpoints that [Change.Via] names, by pattern. What is added may be there
// already; what is removed must be there, so that a slip of the pen does not leave open what was to be closed.
func (ch *Change) apply(c *Config, exits map[string]identity.ID) error {
	if err := policy.CheckUsers(ch.Trust); err != nil {
		return err
	}
	if ch.SetListens != nil {
		c.Listens = *ch.SetListens
	}
	if ch.Default != nil {
		c.Default = *ch.Default
	}
	if ch.DNS != nil {
		c.DNS = *ch.DNS
	}
	for _, edit := range []struct {
		list        *[]string
		add, remove []string
		what        string
		read        func(string) (string, error)
	}{
		{&c.Targets, ch.AddTargets, ch.RemoveTargets, "target", canonical},
		{&c.Exclusions, ch.AddExclusions, ch.RemoveExclusions, "exclusion", canonical},
		{&c.Trust, ch.Trust, ch.Distrust, "trusted user", userName},
	} {
		var err error
		if *edit.list, err = edited(*edit.list, edit.add, edit.remove, edit.what, edit.read); err != nil {
			return err
		}
	}
	return ch.applyRoutes(c, exits)
}

// applyRoutes sets the routes: a pattern has one.
func (ch *Change) applyRoutes(c *Config, exits map[string]identity.ID) error {
	for _, pattern := range ch.RemoveRoutes {
		p, err := canonical(pattern)
		if err != nil {
			return err
		}
		n := len(c.Routes)
		if c.Routes = withoutRoute(c.Routes, p); len(c.Routes) == n {
			return answer.Errorf(answer.NotFound, "there is no route for %s", p)
		}
	}
	set := func(pattern string, exit identity.ID) error {
		p, err := canonical(pattern)
		if err != nil {
			return err
		}
		c.Routes = append(withoutRoute(c.Routes, p), Route{Pattern: p, Exit: exit})
		return nil
	}
	for _, pattern := range slices.Sorted(maps.Keys(exits)) {
		if err := set(pattern, exits[pattern]); err != nil {
			return err
		}
	}
	for _, pattern := range ch.Direct {
		if err := set(pattern, ""); err != nil {
			return err
		}
	}
	return nil
}

func withoutRoute(routes []Route, pattern string) []Route {
	return slices.DeleteFunc(slices.Clone(routes), func(r Route) bool { return r.Pattern == pattern })
}

// edited returns the list with entries added and removed.
func edited(entries, add, remove []string, what string, read func(string) (string, error)) ([]string, error) {
	entries = slices.Clone(entries)
	for _, text := range remove {
		entry, err := read(text)
		if err != nil {
			return nil, err
		}
		i := slices.Index(entries, entry)
		if i < 0 {
			return nil, answer.Errorf(answer.NotFound, "there is no %s %s", what, entry)
		}
		entries = slices.Delete(entries, i, i+1)
	}
	for _, text := range add {
		entry, err := read(text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(entries, entry) {
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// canonical returns the one way to write a pattern.
func canonical(text string) (string, error) {
	p, err := reach.ParsePattern(text)
	if err != nil {
		return "", badRequest(err)
	}
	return p.String(), nil
}

func userName(text string) (string, error) {
	if text == "" || len(text) > 255 {
		return "", answer.Errorf(answer.BadRequest, "a user has 1 to 255 bytes")
	}
	return text, nil
}
