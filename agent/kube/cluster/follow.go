package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"ztm/tunnel/pause"
)

const (
	// A watch outlives the rights it was opened with. So it is opened again, at most that often.
	watchTime, watchSpread = 240 * time.Second, 60 * time.Second
	// silence is how long a watch may say nothing. A bookmark comes every minute.
	silence = 2 * time.Minute
	// shortest and longest wait after a failure.
	minBackoff, maxBackoff = 200 * time.Millisecond, 30 * time.Second
)

// Cache is what [Follow] knows of the objects of one kind. Its methods may be called from any
// goroutine. Make it with [NewCache].
type Cache[T object] struct {
	changed func() // static

	mu     sync.Mutex
	items  map[string]T // by key; nil until the first list came
	err    error        // of the last request; nil if it succeeded
	denied time.Time    // since when the server has refused, or knows no such objects; zero if it does not
}

// NewCache makes a cache that calls changed, which must not block, after each change.
func NewCache[T object](changed func()) *Cache[T] { return &Cache[T]{changed: changed} }

// Items returns the objects in no order, and whether they were listed yet.
func (c *Cache[T]) Items() ([]T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]T, 0, len(c.items))
	for _, item := range c.items {
		list = append(list, item)
	}
	return list, c.items != nil
}

// Health returns why the last request failed, and since when the server has refused this account or
// has known no such objects: zero if it does not.
func (c *Cache[T]) Health() (denied time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.denied, c.err
}

func (c *Cache[T]) replace(items []T) {
	fresh := make(map[string]T, len(items))
	for _, item := range items {
		fresh[item.Head().key()] = item
	}
	c.mu.Lock()
	c.items = fresh
	c.mu.Unlock()
	c.changed()
}

func (c *Cache[T]) set(item T, gone bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := item.Head().key()
	if _, known := c.items[key]; !known && !gone && len(c.items) >= maxObjects {
		return fmt.Errorf("there are more than %d objects", maxObjects)
	}
	if gone {
		delete(c.items, key)
	} else {
		c.items[key] = item
	}
	c.changed()
	return nil
}

// heard notes how a request went.
func (c *Cache[T]) heard(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	switch {
	case !Denied(err) && CodeOf(err) != http.StatusNotFound:
		if err == nil {
			c.denied = time.Time{}
		}
	case c.denied.IsZero():
		c.denied = time.Now()
	}
}

// Follow keeps a cache in step with the objects at a path, such as "/api/v1/services", until ctx
// ends. While the server is away the cache stays as it was.
func Follow[T object](ctx context.Context, c *Client, path string, cache *Cache[T]) {
	f := follower[T]{client: c, path: path, cache: cache}
	wait := minBackoff
	for ctx.Err() == nil {
		progress, err := f.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil || !progress {
			cache.heard(err)
			backOff(ctx, wait, err)
			wait = min(2*wait, maxBackoff)
		}
		if progress {
			wait = minBackoff
		}
	}
}

// backOff waits, at least as long as the server asked for.
func backOff(ctx context.Context, wait time.Duration, err error) {
	wait += rand.N(wait)
	var f *Failure
	if errors.As(err, &f) {
		wait = max(wait, f.After)
	}
	pause.For(ctx, wait)
}

// follower is where a Follow stands.
type follower[T object] struct {
	client  *Client
	path    string
	cache   *Cache[T]
	version string // from which to watch; empty: list first
}

// once lists, if that is needed, and watches once. It reports whether anything came of it.
func (f *follower[T]) once(ctx context.Context) (progress bool, err error) {
	fresh := f.version == ""
	if fresh {
		if err := f.list(ctx); err != nil {
			return false, err
		}
	}
	before, began := f.version, time.Now()
	err = f.watch(ctx)
	if f.version == "" && !fresh && ctx.Err() == nil { // the version was too old: that is no reason to wait
		err = f.list(ctx)
		return err == nil, err
	}
	return f.version != "" && (f.version != before || time.Since(began) > maxBackoff), err
}

// list makes the cache what the server has.
func (f *follower[T]) list(ctx context.Context) error {
	items, version, err := list[T](ctx, f.client, f.path)
	if err == nil {
		f.cache.heard(nil)
		f.cache.replace(items)
		f.version = version
	}
	return err
}

// errSilent ends a watch in which nothing comes.
var errSilent = errors.New("the API server has said nothing for two minutes")

// watch applies changes until the server ends the watch, which is no error.
func (f *follower[T]) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	life := watchTime + rand.N(watchSpread)
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	resp, err := f.client.do(ctx, f.path, request{method: http.MethodGet, query: url.Values{
		"watch": {"1"}, "allowWatchBookmarks": {"true"}, "resourceVersion": {f.version},
		"timeoutSeconds": {strconv.Itoa(int(life / time.Second))},
	}})
	if err != nil {
		return f.failed(ctx, err)
	}
	defer resp.Body.Close()
	f.cache.heard(nil)
	body := &capped{r: resp.Body}
	for d := json.NewDecoder(body); ; {
		var e event
		body.left = maxObject
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return f.failed(ctx, err)
		}
		quiet.Reset(silence)
		if err := f.apply(e); err != nil {
			return f.failed(ctx, err)
		}
	}
}

// failed decides whether a failure asks for a new list: if the version is too old, if the server
// was silent, which it is about a version of its future, or if what it said made no sense.
func (f *follower[T]) failed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		err = cause
	}
	var syntax *json.SyntaxError
	if CodeOf(err) == http.StatusGone || errors.Is(err, errSilent) || errors.Is(err, errTooLarge) || errors.As(err, &syntax) {
		f.version = ""
	}
	return err
}

// event is a line of a watch.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

func (f *follower[T]) apply(e event) error {
	if e.Type == "ERROR" {
		failure := &Failure{}
		if err := json.Unmarshal(e.Object, failure); err != nil {
			return err
		}
		failure.Message = clean(failure.Message)
		return failure
	}
	var item T
	if err := json.Unmarshal(e.Object, &item); err != nil {
		return err
	}
	var err error
	switch e.Type {
	case "ADDED", "MODIFIED":
		err = f.cache.set(item, false)
	case "DELETED":
		err = f.cache.set(item, true)
	}
	if version := item.Head().Version; version != "" && err == nil {
		f.version = version
	}
	return err
}
