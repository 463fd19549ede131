package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"ztm/agent/audit"
	"ztm/agent/audit/sink"
	"ztm/apps"
)

// config shows the settings, after a change where there is one.
func (c commands) config(ctx context.Context, changes bool, change func(*sink.Settings) error) error {
	path, err := c.path(ctx, nil, "config")
	if err != nil {
		return err
	}
	var s sink.Settings
	if err := c.Do(ctx, http.MethodGet, path, nil, &s); err != nil {
		return err
	}
	if changes {
		if err := change(&s); err != nil {
			return err
		}
		if err := c.Do(ctx, http.MethodPost, path, s, &s); err != nil {
			return err
		}
	}
	t := &apps.Table{}
	t.Add("Own Flows:", apps.OnOff(s.Own))
	t.Add("File:", fileOf(s.File))
	t.Add("Syslog:", cmp.Or(s.Syslog, "off"))
	t.Add("Webhook:", cmp.Or(s.Webhook, "off"))
	return c.Print(s, t)
}

func fileOf(f sink.File) string {
	if !f.On {
		return "off"
	}
	return fmt.Sprintf("on, %d of %d MB", cmp.Or(f.Keep, sink.DefaultKeep), cmp.Or(f.Size, sink.DefaultSize)/1_000_000)
}

// verify checks files here. What is wrong is an error.
func (c commands) verify(files []string) error {
	r, err := audit.Verify(files, func(name string) (io.ReadCloser, error) { return os.Open(name) })
	if err != nil {
		return err
	}
	t := &apps.Table{}
	t.Add("Endpoint:", string(r.Endpoint))
	t.Add("Lines:", fmt.Sprintf("%d, from %s to %s", r.Lines, cmp.Or(r.First, "-"), cmp.Or(r.Last, "-")))
	t.Add("Signed:", fmt.Sprintf("%d", r.Signed))
	for _, p := range r.Problems {
		t.Add("Problem:", p)
	}
	if err := c.Print(r, t); err != nil {
		return err
	}
	if r.Found > 0 {
		return fmt.Errorf("%d problems: these files are not what the endpoint has written", r.Found)
	}
	return nil
}
