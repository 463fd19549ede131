package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	maxObject   = 2 << 20 // bytes of one object; a server takes 1.5 MiB
	maxObjects  = 50_000  // of one kind
	pageSize    = 500
	listTimeout = 2 * time.Minute
)

// errTooLarge ends the reading of an object that is larger than [maxObject].
var errTooLarge = errors.New("an object of the API server is larger than 2 MiB")

// capped reads until left bytes were read. Whoever reads objects sets left again for each.
type capped struct {
	r    io.Reader
	left int
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooLarge
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// object is an object of any kind.
type object interface{ Head() Meta }

// list returns all objects of a kind, and the version of the list.
func list[T object](ctx context.Context, c *Client, path string) (items []T, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	q := url.Values{"limit": {strconv.Itoa(pageSize)}}
	for {
		p := page[T]{items: items}
		if err := p.fetch(ctx, c, path, q); err != nil {
			return nil, "", err
		}
		if items = p.items; p.more == "" {
			return items, p.version, nil
		}
		q.Set("continue", p.more)
	}
}

// page is a page of a list, and the pages before it.
type page[T object] struct {
	items         []T
	version, more string
}

func (p *page[T]) fetch(ctx context.Context, c *Client, path string, q url.Values) error {
	resp, err := c.do(ctx, path, request{method: http.MethodGet, query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := &capped{r: resp.Body, left: maxObject}
	err = p.read(json.NewDecoder(body), body)
	if err == nil && p.version == "" {
		err = errors.New("it has no version")
	}
	if err != nil {
		return fmt.Errorf("list of %s: %w", path, err)
	}
	return nil
}

// read reads {"metadata":{...},"items":[...]} one item at a time.
func (p *page[T]) read(d *json.Decoder, body *capped) error {
	if err := expect(d, '{'); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		switch name {
		case "metadata":
			var head struct {
				Version string `json:"resourceVersion"`
				More    string `json:"continue"`
			}
			err = d.Decode(&head)
			p.version, p.more = head.Version, head.More
		case "items":
			err = p.readItems(d, body)
		default:
			var skipped json.RawMessage
			err = d.Decode(&skipped)
		}
		if err != nil {
			return err
		}
	}
	return expect(d, '}')
}

func (p *page[T]) readItems(d *json.Decoder, body *capped) error {
	if first, err := d.Token(); err != nil || first == nil { // null is an empty list
		return err
	} else if first != json.Delim('[') {
		return errors.New("its items are no list")
	}
	for d.More() {
		var item T
		body.left = maxObject
		if err := d.Decode(&item); err != nil {
			return err
		}
		if len(p.items) == maxObjects {
			return fmt.Errorf("there are more than %d objects", maxObjects)
		}
		p.items = append(p.items, item)
	}
	body.left = maxObject
	return expect(d, ']')
}

func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case got != want:
		return fmt.Errorf("got %v instead of %v", got, want)
	}
	return nil
}
