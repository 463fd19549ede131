package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ztm/apps"
	"ztm/apps/file"
	"ztm/tunnel/unixtime"
)

// maxListing is the longest listing, in bytes.
const maxListing = 256 << 20

// list is `ztm file ls`.
func list(ctx context.Context, c apps.Console, path string, long bool) error {
	at, err := locate(ctx, c, path)
	if err != nil {
		return err
	}
	if at.here {
		if at.ep, err = c.Endpoint(ctx); err != nil {
			return err
		}
		if at.path, err = absolute(at.path); err != nil {
			return err
		}
	}
	conn, err := c.Open(ctx, at.ep.ID, file.Name+"/list", url.Values{"path": {at.path}})
	if err != nil {
		return apps.OwnerHint(err, mayRead)
	}
	defer conn.Close()
	stop := onInterrupt(ctx, conn)
	defer stop()
	all := []file.Info{}
	d := json.NewDecoder(io.LimitReader(conn, maxListing))
	for {
		var l struct {
			file.Info
			End bool `json:"end"`
		}
		if err := d.Decode(&l); err != nil {
			return fmt.Errorf("the list is not complete: %w", noEOF(err))
		}
		if l.End {
			break
		}
		all = append(all, l.Info)
	}
	slices.SortFunc(all, func(a, b file.Info) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return c.Print(all, table(all, long))
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func table(all []file.Info, long bool) *apps.Table {
	t := &apps.Table{Header: []string{"NAME", "SIZE", "DATE"}}
	if long {
		t.Header = []string{"MODE", "SIZE", "DATE", "NAME"}
	}
	for _, i := range all {
		name, size, date := i.Name.String(), strconv.FormatInt(i.Size, 10), unixtime.Text(i.Time)
		if i.Type == file.TypeDir {
			name, size = name+"/", "-"
		}
		if long {
			t.Add(apps.Printable(i.Mode), size, date, name)
		} else {
			t.Add(name, size, date)
		}
	}
	return t
}
