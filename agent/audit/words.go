package audit

import (
	"net/http"
	"strings"
)

// act is a request of the API by which a command changes something.
type act struct {
	method, path string // a path that ends with a slash goes on; "*" is anything without one
	words        string // of the command, without ztm and the app; "" where the path ends with them
	more         bool   // what the path goes on with, or has in place of "*", belongs to them
}

// acts are in no order. What is not here is no command's: it is recorded as it was asked.
var acts = []act{
	{http.MethodPost, "permits/", "invite", true},
	{http.MethodPost, "permits", "invite --hub", false},
	{http.MethodDelete, "users/", "evict", true},
	{http.MethodDelete, "devices/", "evict ep", false},
	{http.MethodPost, "ca", "rotate root", false},
	{http.MethodPut, "hubs", "set hubs", false},
	{http.MethodDelete, "names/", "forget", true},
	{http.MethodPost, "labels", "label", false},
	{http.MethodPut, "direct", "config direct", false},
	{http.MethodDelete, "tokens/", "revoke token", true},
	{http.MethodPost, "approvals", "approve", false},
	{http.MethodPost, "policy/groups/", "group", true},
	{http.MethodPost, "policy/users/", "invite --valid", true},
	{http.MethodPost, "policy/labels", "policy label", false},
	{http.MethodPost, "policy/direct", "policy direct", false},
	{http.MethodPut, "policy/source", "policy apply", false},
	{http.MethodPut, "notice", "notice config", false},
	{http.MethodPost, "notice", "notice test", false},
	{http.MethodPost, "audit/config", "audit config", false},
	{http.MethodDelete, "audit/users/", "audit forget", false}, // whose lines were dropped is in no line
	{http.MethodPatch, "apps/*/config", "config", false},
	{http.MethodPatch, "apps/file/config", "inbox", false},
	{http.MethodPatch, "apps/file/allow", "allow", false},
	{http.MethodPost, "apps/tunnel/inbound/", "inbound", true},
	{http.MethodDelete, "apps/tunnel/inbound/", "close inbound", true},
	{http.MethodPost, "apps/tunnel/outbound/", "outbound", true},
	{http.MethodDelete, "apps/tunnel/outbound/", "close outbound", true},
	{http.MethodPost, "apps/tunnel/allow", "allow", false},
	{http.MethodPost, "apps/proxy/rules", "rules", false},
	{http.MethodPut, "apps/proxy/rules/", "rules --index", true},
	{http.MethodDelete, "apps/proxy/rules/", "rules --remove --index", true},
	{http.MethodPut, "apps/proxy/credentials/", "config --add-credential", true},
	{http.MethodDelete, "apps/proxy/credentials/", "config --remove-credential", true},
	{http.MethodPost, "apps/file/offers/", "inbox", true},
	{http.MethodPost, "apps/cloud/downloads", "download", false},
	{http.MethodDelete, "apps/cloud/downloads/", "download --cancel", true},
	{http.MethodPost, "apps/cloud/mirrors", "mirror", false},
	{http.MethodPost, "apps/cloud/", "", true},
	{http.MethodPost, "apps/app/apps/", "", true},
	{http.MethodPatch, "apps/app/apps/", "config", true},
	{http.MethodDelete, "apps/app/apps/", "erase", true},
	{http.MethodPost, "apps/kube/logins/", "login", true},
	{http.MethodPost, "apps/kube/logins/*/token", "token", true},
	{http.MethodDelete, "apps/kube/logins/", "logout", true},
}

// words are what a request is on the command line, without ztm and the app.
func words(method, path string) string {
	best, name := act{}, ""
	for _, a := range acts {
		if rest, is := a.is(method, path); is && len(a.path) > len(best.path) {
			best, name = a, rest
		}
	}
	switch {
	case best.path == "":
		return method + " " + path
	case !best.more:
		return best.words
	}
	if verb := strings.LastIndexByte(name, '/'); verb >= 0 && best.words == "" {
		return name[verb+1:] + " " + name[:verb]
	}
	return strings.TrimSpace(best.words + " " + name)
}

// is reports whether a request is this one, and what its path goes on with.
func (a act) is(method, path string) (rest string, is bool) {
	if method != a.method {
		return "", false
	}
	if before, after, anyApp := strings.Cut(a.path, "*"); anyApp {
		rest, begins := strings.CutPrefix(path, before)
		rest, ends := strings.CutSuffix(rest, after)
		return rest, begins && ends && rest != "" && !strings.Contains(rest, "/")
	}
	if strings.HasSuffix(a.path, "/") {
		rest, is = strings.CutPrefix(path, a.path)
		return rest, is && rest != ""
	}
	return "", path == a.path
}
