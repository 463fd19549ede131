package etcd

import (
	"context"
	"time"
)

type leaseAnswer struct {
	ID  int64 `json:"ID,string"`
	TTL int64 `json:"TTL,string"`
}

// Grant makes a lease that stands for a time from each sign of life on. It may stand for longer: each
// new leader of etcd begins anew. Nothing that must be unique or remembered may hang on it.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (id int64, err error) {
	var a leaseAnswer
	_, err = c.post(ctx, "/v3/lease/grant", leaseAnswer{TTL: int64(ttl / time.Second)}, &a)
	return a.ID, err
}

// KeepAlive gives a sign of life for a lease, and gets one of the endpoint. If there is no answer in
// a second, the client moves to another endpoint, with its watches. alive is false if the lease is
// gone.
func (c *Client) KeepAlive(ctx context.Context, id int64) (alive bool, err error) {
	at := c.at()
	var a struct {
		Result struct {
			leaseAnswer
			Header header `json:"header"`
		} `json:"result"`
		Error *wireError `json:"error"`
	}
	if _, err := c.post(ctx, "/v3/lease/keepalive", leaseAnswer{ID: id}, &a); err != nil {
		return false, err
	}
	if a.Error != nil {
		c.move(at, ErrMoved)
		return false, a.Error.err()
	}
	c.recognize(a.Result.Header)
	return a.Result.TTL > 0, nil
}

// Revoke ends a lease, and deletes the keys that hang on it.
func (c *Client) Revoke(ctx context.Context, id int64) error {
	_, err := c.post(ctx, "/v3/lease/revoke", leaseAnswer{ID: id}, &struct{}{})
	return err
}
