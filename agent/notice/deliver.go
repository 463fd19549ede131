package notice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"time"

	"ztm/agent/feature"
	"ztm/agent/webhook"
)

const (
	commandTime = 30 * time.Second // of one command, which is killed then
	tries       = 3                // of a webhook
	tryAgain    = 10 * time.Second
)

// deliver tells one notice after the other.
func (t *Teller) deliver(ctx context.Context) {
	for {
		select {
		case n := <-t.queue:
			s := t.Settings()
			b, err := json.Marshal(n)
			if err == nil && len(s.Command) > 0 {
				err = run(ctx, s.Command, n, b)
			}
			if feature.Audit && s.Webhook != "" {
				err = errors.Join(err, send(ctx, webhook.Hook{URL: s.Webhook, Secret: s.Secret}, b))
			}
			if err != nil && ctx.Err() == nil {
				t.Log.Warn("a notice could not be told", "kind", n.Kind, "about", n.About, "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// run runs a command. The notice is in its environment and on its standard input.
func run(ctx context.Context, words []string, n Notice, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.WaitDelay = time.Second
	c.Stdin = bytes.NewReader(text)
	c.Env = append(os.Environ(), "ZTM_NOTICE="+string(n.Kind), "ZTM_NOTICE_ABOUT="+n.About, "ZTM_NOTICE_TEXT="+n.Text,
		"ZTM_NOTICE_MESH="+n.Mesh, "ZTM_NOTICE_ENDPOINT="+n.Endpoint)
	return c.Run()
}

// send sends a notice to a web server.
func send(ctx context.Context, h webhook.Hook, text []byte) (err error) {
	for range tries {
		if err = h.Send(ctx, "application/json", text); err == nil || errors.Is(err, webhook.ErrNever) {
			return err
		}
		select {
		case <-time.After(tryAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}
