package entrance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"testing"

	"ztm/apps"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// failingMesh fails every flow in the way that it is told, and notes which exits were asked.
type failingMesh struct {
	apps.Mesh
	err   error
	asked []identity.ID
}

func (m *failingMesh) OpenEarly(_ context.Context, to identity.ID, _ string, _ url.Values, _ *apps.Early) (net.Conn, error) {
	m.asked = append(m.asked, to)
	return nil, m.err
}

func TestNoOtherExitIsAskedWhereTheFirstBytesMayHaveArrived(t *testing.T) {
	refused := answer.Errorf(answer.Refused, "nobody there")
	for _, tt := range []struct {
		name  string
		err   error
		asked int
	}{
		{"refused", refused, 2},
		{"no answer", fmt.Errorf("%w; %w", refused, apps.ErrUnknownOutcome), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &failingMesh{err: tt.err}
			config := spec.Inbound{Key: spec.Key{Protocol: spec.TCP, Name: "web"}}
			config.Exits = []identity.ID{"one", "two"}
			in := New(apps.Host{Mesh: m, Log: slog.New(slog.DiscardHandler)}, config)
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			_, _, err := in.take(t.Context(), newListener(spec.TCP, spec.Address{}), apps.NewEarly(near))
			if answer.CodeOf(err) != answer.Refused || errors.Is(err, apps.ErrUnknownOutcome) != (tt.asked == 1) {
				t.Errorf("got %v", err)
			}
			if len(m.asked) != tt.asked {
				t.Errorf("asked %v", m.asked)
			}
		})
	}
}
