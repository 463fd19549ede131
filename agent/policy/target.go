package policy

import "strings"

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
