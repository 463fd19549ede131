package cloud

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/tunnel/identity"
)

// How this endpoint hears of files: it asks each endpoint whose number has changed, when somebody
// here asks for files, or when the endpoint says that there is news.

const (
	askTime  = 30 * time.Second // for the index of one peer
	asking   = 8                // peers that are asked at a time
	few      = 16               // peers that are asked even if the directory says that they have no news
	mostAsks = 400              // requests for one peer's index in a row
)

// offered returns the number that an endpoint offers, or "".
func offered(e apps.Endpoint) string {
	for _, o := range e.Offers {
		if n, ok := strings.CutPrefix(o, Name+"/"); ok {
			return n
		}
	}
	return ""
}

// others lists the endpoints that are online and have this app.
func (a *App) others(ctx context.Context) ([]apps.Endpoint, error) {
	all, err := a.host.Mesh.Endpoints(ctx, apps.Filter{Online: true})
	var list []apps.Endpoint
	for _, e := range all {
		if !e.Local && offered(e) != "" {
			list = append(list, e)
		}
	}
	return list, err
}

// refresh asks all endpoints that have changed. Where they are few it asks all, and those of a user
// whose files are meant in any case: the hub is told of changes a moment later. Those that do not
// answer are left out; their errors come back together.
func (a *App) refresh(ctx context.Context, user string) error {
	list, err := a.others(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(list))
	var asked sync.WaitGroup
	places := make(chan struct{}, asking)
	for i, e := range list {
		asked.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if err := a.pull(ctx, e.ID, offered(e), len(list) <= few || e.User == user); err != nil {
				errs[i] = fmt.Errorf("%s: %w", e.Name, err)
			}
		})
	}
	asked.Wait()
	return errors.Join(errs...)
}

func (a *App) peer(id identity.ID) *known {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.peers[id]
	if k == nil {
		k = &known{}
		a.peers[id] = k
		a.index.Forget(&a.holders, id)
	}
	return k
}

// pull asks a peer for what is new, unless its number is the one that it offered last time and it
// need not be asked in any case.
func (a *App) pull(ctx context.Context, id identity.ID, offer string, anyway bool) error {
	k := a.peer(id)
	k.asking.Lock()
	defer k.asking.Unlock()
	if offer == k.offer && !anyway {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	for range mostAsks {
		more, err := a.ask(ctx, id, k)
		if err != nil {
			return err
		}
		if !more {
			k.offer = offer
			return nil
		}
	}
	return errors.New("its index has no end")
}

// ask makes one request for the index of a peer.
func (a *App) ask(ctx context.Context, id identity.ID, k *known) (more bool, err error) {
	conn, err := a.host.Mesh.Open(ctx, id, Name+"/index", url.Values{"epoch": {k.epoch}, "since": {strconv.FormatUint(k.next, 10)}})
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r := bufio.NewReaderSize(conn, 64<<10)
	for total := 0; ; {
		line, err := index.ReadLine(r, index.MaxPage)
		if err == io.EOF && total > 0 {
			return more, nil
		}
		if err != nil {
			return false, err
		}
		if total += len(line); total > index.MaxBytes+index.MaxPage {
			return false, errors.New("its index is too long")
		}
		page, err := index.ParsePage(line)
		if err != nil {
			return false, err
		}
		if err := a.takePage(id, k, page); err != nil {
			return false, err
		}
		more = page.More
	}
}

// takePage takes a page of a peer's index.
func (a *App) takePage(id identity.ID, k *known, page *index.Page) error {
	if page.Epoch != k.epoch {
		a.index.Forget(&a.holders, id) // it begins anew
	} else if page.Next < k.next || page.More && page.Next == k.next {
		return errors.New("its index goes backwards")
	}
	_, refused, err := a.index.Put(page.Signed())
	if err != nil {
		return err
	}
	if len(refused) > 0 {
		a.log().Debug("a peer told of files that are refused", "peer", id, "files", len(refused), "err", refused[0])
	}
	for _, t := range page.Entries {
		if e, err := entry.Read(t.Doc); err == nil {
			a.index.Told(&a.holders, id, e, t.Held)
		}
	}
	k.epoch, k.next = page.Epoch, page.Next

	return nil
}

// openBlocks opens a flow for blocks.
func (a *App) openBlocks(ctx context.Context, id identity.ID) (net.Conn, error) {
	conn, err := a.host.Mesh.Open(ctx, id, Name+"/blocks", nil)
	if err != nil {
		return nil, err
	}
	return a.down.Conn(conn), nil
}
