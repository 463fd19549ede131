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
		now := ""
		if err := c.Do(ctx, http.MethodPut, path, mode, &now); err != nil {
			return err
		}
		if now != mode {
			c.Warn("it is %s all the same: the policy of the mesh says so", now)
		}
		return nil
	}
	if err := c.Do(ctx, http.MethodGet, path, nil, &mode); err != nil {
		return err
	}
	return c.Print(mode, &apps.Table{Rows: [][]string{{mode}}})
}
