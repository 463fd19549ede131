package external

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"

	"ztm/apps"
	"ztm/apps/external/shelf"
	"ztm/tunnel/answer"
)

// cloud is the app cloud of this endpoint, which the programs of others reach through [shelf.Shelf]
// alone.
type cloud struct{ host apps.Host }

var _ shelf.Cloud = cloud{}

// maxListing is the longest answer that is read, in bytes.
const maxListing = 16 << 20

// Call implements [shelf.Cloud].
func (c cloud) Call(ctx context.Context, method, path string, in, out any) error {
	app, rest, _ := strings.Cut(path, "/")
	api := c.host.API(app)
	if api == nil {
		return answer.Errorf(answer.Unavailable, "this endpoint has no app %s", app)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, "/"+rest, bytes.NewReader(body))
	if err != nil {
		return err
	}
	kept := answer.NewKept(maxListing)
	api.ServeHTTP(kept, r)
	switch {
	case kept.Status/100 != 2:
		return answer.Parse(kept.Status, kept.Body.Bytes())
	case out == nil:
		return nil
	}
	return json.Unmarshal(kept.Body.Bytes(), out)
}

// Open implements [shelf.Cloud].
func (c cloud) Open(ctx context.Context, path string, query url.Values) (net.Conn, error) {
	return c.host.Mesh.Open(ctx, c.host.Mesh.Self().ID, path, query)
}
