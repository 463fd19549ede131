package console

import (
	"context"
	"net/http"

	"ztm/apps"
)

// direct shows or sets with whom an endpoint meets without a hub.
func (c *Console) direct(ctx context.Context, mode string) error {
	path, err := c.At(ctx, "direct")
	if err != nil {
		return err
	}
	if mode != "" {
		return c.Do(ctx, http.MethodPut, path, mode, nil)
	}
	if err := c.Do(ctx, http.MethodGet, path, nil, &mode); err != nil {
		return err
	}
	return c.Print(mode, &apps.Table{Rows: [][]string{{mode}}})
}
