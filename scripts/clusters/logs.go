//go:build linux

package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
)

// serveLogs is the one thing that an API server asks a kubelet for here: the log of a pod, which is the
// file PREFIX-POD.log. The certificate is one that nobody knows, as that of many a kubelet.
func serveLogs(address, prefix string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(prefix + "-" + filepath.Base(r.PathValue("pod")) + ".log")
		if err != nil {
			http.Error(w, "there is no log", http.StatusNotFound)
			return
		}
		defer f.Close()
		io.Copy(w, f)
	})
	server := httptest.NewUnstartedServer(mux)
	server.Listener.Close()
	server.Listener = ln
	server.StartTLS()
	select {} // until it is killed
}
