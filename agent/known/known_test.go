package known

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ztm/agent/limits"
	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/metric"
)

func TestLogLinesNameThePeer(t *testing.T) {
	var k Directory
	bob := apps.Endpoint{ID: identity.IDOf([]byte("bob")), Name: "ep-bob", User: "bob"}
	k.Remember(bob, identity.Subject{}, nil, time.Now())
	var out bytes.Buffer
	log := slog.New(k.Naming(slog.NewTextHandler(&out, nil)))
	for name, write := range map[string]func(){
		"in the line":       func() { log.Info("x", "peer", bob.ID) },
		"in the logger":     func() { log.With("peer", bob.ID).Info("x") },
		"beside other ones": func() { log.Info("x", "user", "bob", "peer", bob.ID, "err", "y") },
	} {
		out.Reset()
		write()
		if line := out.String(); !strings.Contains(line, string(bob.ID)) || strings.Count(line, "name=ep-bob") != 1 {
			t.Errorf("%s: %s", name, line)
		}
	}
	named := string(bob.ID) + " (ep-bob)"
	for name, write := range map[string]func(){
		"in another attribute": func() { log.Info("x", "asked by", bob.ID) },
		"in an error":          func() { log.Info("x", "err", fmt.Errorf("exit %s: no answer", bob.ID)) },
		"in a text":            func() { log.With("why", "exit "+string(bob.ID)).Info("x") },
	} {
		out.Reset()
		if write(); strings.Count(out.String(), named) != 1 {
			t.Errorf("%s: %s", name, out.String())
		}
	}
	for _, text := range []string{"", "abc", string(bob.ID) + "a", "x" + string(bob.ID), string(identity.IDOf([]byte("nobody")))} {
		if got := (naming{known: &k}).text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	out.Reset()
	log.Info("x", "peer", identity.IDOf([]byte("nobody")))
	if strings.Contains(out.String(), "name=") {
		t.Errorf("an unknown peer: %s", out.String())
	}
}

func TestCountersNameThePeer(t *testing.T) {
	var k Directory
	bob := apps.Endpoint{ID: identity.IDOf([]byte("bob")), Name: "ep-bob", User: "bob"}
	k.Remember(bob, identity.Subject{}, nil, time.Now())
	var set metric.Set
	w := set.With("mesh", "demo").Beside(k.Labels)
	w.With("peer", string(bob.ID)).Counter("known_total", "Known.", 1, "peers", "x")
	w.Counter("unknown_total", "Unknown.", 1, "peer", "nobody")
	var out strings.Builder
	set.WriteTo(&out)
	for _, want := range []string{
		`known_total{mesh="demo",peer="` + string(bob.ID) + `",peers="x",endpoint="ep-bob"} 1`,
		`unknown_total{mesh="demo",peer="nobody",endpoint=""} 1`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no line %s in:\n%s", want, out.String())
		}
	}
}

func TestTheLastKnownDirectoryIsKeptInBounds(t *testing.T) {
	var k Directory
	for i := range limits.Known + 10 {
		k.Remember(apps.Endpoint{ID: identity.IDOf([]byte{byte(i), byte(i >> 8)})}, identity.Subject{}, nil, time.Now())
	}
	if len(k.eps) != limits.Known {
		t.Errorf("%d endpoints are kept, want %d", len(k.eps), limits.Known)
	}
}
