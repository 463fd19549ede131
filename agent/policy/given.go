package policy

import (
	"iter"
	"strings"

	"ztm/apps"
	"ztm/tunnel/unixtime"
)

// Given lists what grants give a peer of an app, by names as grants have them: "" is all of the app.
// It is empty where grants are not enforced. now is in Unix seconds.
func (r *Rights) Given(p apps.Peer, app string, now unixtime.Seconds) map[string]Decision {
	out := map[string]Decision{}
	_, end, decided := r.before(p, now)
	if decided || !r.Enforces() || p.User == "" {
		return out
	}
	of := r.of[p.User]
	for name, ix := range r.named(app) {
		d := out[name]
		if d.Reason == "" {
			d.Reason = NoGrant
		}
		if ix.search(&d, p, of, end, now); d.Allow {
			out[name] = d
		}
	}
	return out
}

// Below is Decide for anything below a name of an app, such as "forward", or above it.
func (r *Rights) Below(p apps.Peer, app, name string, now unixtime.Seconds) Decision {
	d, end, decided := r.before(p, now)
	if decided {
		return d
	}
	if p.User != "" {
		of := r.of[p.User]
		for given, ix := range r.named(app) {
			if _, meet := Meet(given, name+below); meet {
				ix.search(&d, p, of, end, now)
			}
		}
	}
	return r.after(d)
}

// below ends a name that is all below another.
const below = "/*"

// named are the indexes of an app by names as grants have them. A name may come more than once.
func (r *Rights) named(app string) iter.Seq2[string, *index] {
	return func(yield func(string, *index) bool) {
		for t, ix := range r.exact {
			if t.app == app && !yield(t.name, ix) {
				return
			}
		}
		for t, ix := range r.below {
			if t.app == app && !yield(t.name+below, ix) {
				return
			}
		}
		for _, p := range r.ranges[app] {
			if !yield(p.name, p.index) {
				return
			}
		}
	}
}

// Meet returns what two names of one app have in common, if one of them covers the other. Ranges of
// addresses are not compared with each other.
func Meet(a, b string) (narrow string, meet bool) {
	switch {
	case covers(a, b):
		return b, true
	case covers(b, a):
		return a, true
	}
	return "", false
}

func covers(wide, name string) bool {
	above, all := strings.CutSuffix(wide, "*")
	return wide == "" || wide == name || all && (above == "" || strings.HasSuffix(above, "/") && strings.HasPrefix(name, above))
}
