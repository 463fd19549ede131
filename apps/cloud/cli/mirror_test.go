package cli

import (
	"strings"
	"testing"

	"ztm/apps/appstest"
)

func TestAMirrorIsMadeListedAndEnded(t *testing.T) {
	var n appstest.Net
	p := newPlace(t, &n, "nas", "alice")
	dry := p.want("mirror", "--upload", "on", "--exclude", "*.tmp", "--dry-run", "docs")
	if !strings.Contains(dry.Out, "WOULD") {
		t.Errorf("%+v", dry)
	}
	made := p.want("mirror", "--upload", "on", "--exclude", "*.tmp", "docs")
	list := p.want("mirror")
	for _, r := range []appstest.Result{made, list} {
		if !strings.Contains(r.Out, "/users/alice/docs") || !strings.Contains(r.Out, "off") || !strings.Contains(r.Out, "on") {
			t.Errorf("%+v", r)
		}
	}
	selective := p.want("mirror", "--download", "on", "--selective", "on", "--limit", "2M", "--include", "*.pdf", "docs")
	for _, want := range []string{"2.0 MB/s", "*.pdf", "selective"} {
		if !strings.Contains(selective.Out, want) {
			t.Errorf("no %q in %s", want, selective.Out)
		}
	}
	p.want("mirror", "--upload", "off", "--download", "off", "docs")
	if r := p.want("mirror"); strings.Contains(r.Out, "docs") {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{"mirror", "docs"}, {"mirror", "--upload", "maybe", "docs"}, {"mirror", "--confirm"}, {"mirror", "a", "b"}} {
		if r := p.run(args...); r.Failure == "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
