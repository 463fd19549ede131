package policy

import (
	"fmt"
	"strings"

	"ztm/apps/reach"
)

// Target returns what a grant calls what a flow asks for: path is the flow's, below its app, and
// address is what the flow names of its own, if it does. It is "" where a flow is about the app as a
// whole.
//
//	tunnel    tcp/NAME, udp/NAME; forward/HOST:PORT; reverse/tcp
//	proxy     HOST:PORT
//	file      read, write, inbox
//	others    the path
func Target(app, path, address string) string {
	switch {
	case app == proxy:
		return address
	case app == "tunnel" && strings.HasPrefix(path, forward):
		return forward + address
	case app == "file" && path == "list":
		return "read"
	}
	return path
}

// Runs reports whether somebody who is let into an app runs what they like at the endpoint, and so
// reaches whatever the endpoint does.
func Runs(app string) bool { return app == "terminal" || app == "script" }

// Wide reports whether an app lets whom it lets in reach more than its owner has named one by one: by
// what they run, or by addresses that they choose. name is what a grant calls that.
func Wide(app string) (name string, wide bool) {
	if app == "tunnel" {
		return forward + "*", true
	}
	return "", Runs(app) || app == proxy
}

// Chosen reports whether a target of an app is an address that the peer has chosen.
func Chosen(app, name string) bool { return app == "tunnel" && strings.HasPrefix(name, forward) }

// Named reports whether a flow is to a target that the owner of the endpoint has named, and not to an
// address that the peer has chosen.
func Named(app, path string) bool {
	return app == "tunnel" && (strings.HasPrefix(path, "tcp/") || strings.HasPrefix(path, "udp/")) && !strings.ContainsRune(path, ' ')
}

// CheckTarget refuses an entry of a grant's list of targets that would mean nothing that an app ever
// asks for: patterns are for addresses, and elsewhere "*" is all of an app or all below a name.
func CheckTarget(to string) error {
	app, name, _ := strings.Cut(to, "/")
	address, isRange := addressOf(app, name)
	switch {
	case isRange:
		if _, err := reach.ParsePattern(address); err != nil {
			return fmt.Errorf("%s: %w", to, err)
		}
	case strings.Contains(strings.TrimSuffix("/"+name, "/*"), "*"):
		return fmt.Errorf("%s: a pattern is for addresses; elsewhere * stands behind the last slash and is all below it", to)
	}
	return nil
}

// addressOf returns the range of addresses that an entry names, if it names one.
func addressOf(app, name string) (address string, isRange bool) {
	address, isRange = strings.CutPrefix(name, forward)
	if app == proxy {
		address, isRange = name, name != ""
	}
	return address, isRange && name != forward+"*"
}
