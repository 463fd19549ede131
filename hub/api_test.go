package hub

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"ztm/tunnel/answer"
)

func FuzzARequestIsRoutedOrRefused(f *testing.F) {
	for _, r := range routes {
		f.Add(r.method, r.path, "limit=10&online=true")
		f.Add(r.method, r.path+"x", "offset=-1")
	}
	f.Fuzz(func(t *testing.T, method, path, query string) {
		r, arg, err := find(method, path)
		var refusal *answer.Error
		switch {
		case err != nil:
			if !errors.As(err, &refusal) || refusal.Code != answer.NotFound && refusal.Code != answer.BadRequest {
				t.Errorf("%q %q: %v", method, path, err)
			}
		case r.method != method || r.path+arg != path || strings.HasSuffix(r.path, "/") != (arg != ""):
			t.Errorf("%q %q is routed to %s with %q", method, path, r.name, arg)
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		if p, err := parseFilter(values); err == nil && (p.Offset < 0 || p.Limit < 0) {
			t.Errorf("%q gives %+v", query, p)
		}
	})
}
