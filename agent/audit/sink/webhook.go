package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"ztm/agent/audit"
	"ztm/agent/webhook"
)

// hook sends lines of JSON to a web server.
type hook struct{ webhook.Hook }

func (h hook) gathers() time.Duration { return 5 * time.Second }
func (h hook) close() error           { return nil }

func (h hook) write(ctx context.Context, batch []audit.Entry) error {
	var b bytes.Buffer
	for _, e := range batch {
		b.Write(e.Text)
		b.WriteByte('\n')
	}
	err := h.Send(ctx, "application/x-ndjson", b.Bytes())
	if errors.Is(err, webhook.ErrNever) {
		err = fmt.Errorf("%w: %w", errNever, err)
	}
	return err
}
