package agent

import (
	"context"
	"net"
	"net/url"

	"ztm/agent/peers"
	"ztm/apps"
	"ztm/tunnel/identity"
)

// Open implements apps.Mesh.
func (m *mesh) Open(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error) {
	return m.peers.Open(ctx, peers.Opening{To: to, Path: path, Query: query})
}

// OpenDatagrams implements apps.Mesh.
func (m *mesh) OpenDatagrams(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error) {
	return m.peers.Open(ctx, peers.Opening{To: to, Path: path, Query: query, Datagrams: true})
}

// OpenEarly implements apps.EarlyOpener.
func (m *mesh) OpenEarly(ctx context.Context, to identity.ID, path string, query url.Values, client *apps.Early) (net.Conn, error) {
	return m.peers.Open(ctx, peers.Opening{To: to, Path: path, Query: query, Client: client})
}

var _ apps.EarlyOpener = (*mesh)(nil)
