package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// ours are the pages of the console: modules, a style sheet, nothing that is generated. A release has
// them compressed, by an overlay of cross.
//
//go:embed pages
var ours embed.FS

// types are the kinds of files that are served. Another kind is not found.
var types = map[string]string{
	".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8",
	".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}

// index is the one page. It gets the nonce, with which the styles that a terminal makes are let in.
func (o *opening) index(w http.ResponseWriter, r *http.Request) {
	b, err := ours.ReadFile("pages/index.html")
	if err == nil {
		b, err = unpacked(b)
	}
	if err != nil {
		http.NotFound(w, r)
		return
	}
	nonce, _ := r.Context().Value(nonceKey{}).(string)
	w.Header().Set("Content-Type", types[".html"])
	w.Write(bytes.ReplaceAll(b, []byte("NONCE"), []byte(nonce)))
}

func servePage(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	if name == "index.html" {
		http.NotFound(w, r)
		return
	}
	serveFile(w, r, ours, "pages/"+name, name)
}

// serveFetched serves the files of others, which are kept compressed.
func serveFetched(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	serveFile(w, r, fetched(), name+".gz", name)
}

// serveFile serves a file that may be compressed, under the kind of its name.
func serveFile(w http.ResponseWriter, r *http.Request, from fs.FS, file, name string) {
	b, err := fs.ReadFile(from, file)
	kind := types[path.Ext(name)]
	if err != nil || kind == "" {
		http.NotFound(w, r)
		return
	}
	if packed(b) && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
	} else if b, err = unpacked(b); err != nil {
		http.NotFound(w, r)
		return
	}
	send(w, r, kind, b)
}

// packed reports whether a file is compressed.
func packed(b []byte) bool { return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) } // RFC 1952 section 2.3.1

// send serves a file of the binary. A browser may keep it, and asks whether it is still the same.
func send(w http.ResponseWriter, r *http.Request, kind string, b []byte) {
	sum := sha256.Sum256(b)
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-cache")
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	h.Set("Etag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write(b)
}

// hasTerminal reports whether the files of the terminal are in this binary.
func hasTerminal() bool {
	names, err := fs.Glob(fetched(), "*.js.gz")
	return err == nil && len(names) > 0
}
