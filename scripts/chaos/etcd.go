//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ztm/scripts/process"
)

// The files of etcd's certificates: a CA, and one certificate for all members and hubs.
const caFile, certFile, keyFile = "etcd-ca.pem", "etcd.pem", "etcd-key.pem"

// startEtcds starts the members of etcd. Where there is no etcd it says so, and hubs have links alone.
func (r *rig) startEtcds(ctx context.Context) error {
	program := r.settings.etcd
	if program == "" {
		var err error
		if program, err = exec.LookPath("etcd"); err != nil && r.settings.etcds > 0 {
			fmt.Println("chaos: there is no etcd here (Debian has it in etcd-server): hubs have links alone")
			return nil
		}
	}
	if r.settings.etcds == 0 {
		return nil
	}
	if err := r.certificates(); err != nil {
		return err
	}
	var cluster []string
	for i := range r.settings.etcds {
		n := &node{name: fmt.Sprint("etcd", i+1)}
		if err := r.world.add(n.name, fmt.Sprintf("10.77.0.%d", 21+i)); err != nil {
			return err
		}
		if err := small(r.data(n.name), "256m"); err != nil { // it makes files of 64 MB before it needs them
			return err
		}
		cluster = append(cluster, n.name+"=https://"+r.address(n, 2380))
		r.etcds = append(r.etcds, n)
	}
	for _, n := range r.etcds {
		ca, cert, key := r.data(caFile), r.data(certFile), r.data(keyFile)
		clients, peers := "https://"+r.address(n, 2379), "https://"+r.address(n, 2380)
		n.args = []string{program, "--name", n.name, "--data-dir", r.data(n.name), "--initial-cluster", strings.Join(cluster, ","),
			"--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
			"--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", cert, "--key-file", key,
			"--peer-client-cert-auth", "--peer-trusted-ca-file", ca, "--peer-cert-file", cert, "--peer-key-file", key}
		if err := r.start(n); err != nil {
			return err
		}
	}
	return process.Until(ctx, "etcd", timeout, r.etcdAnswers)
}

// endpoints returns the URLs of etcd.
func (r *rig) endpoints() (all []string) {
	for _, n := range r.etcds {
		all = append(all, "https://"+r.address(n, 2379))
	}
	return all
}

// client returns what speaks to etcd as a hub does.
func (r *rig) client() (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(r.data(certFile), r.data(keyFile))
	if err != nil {
		return nil, err
	}
	t := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}, DisableKeepAlives: true}
	return &http.Client{Transport: t, Timeout: time.Second}, nil
}

func (r *rig) etcdAnswers() error {
	client, err := r.client()
	if err != nil {
		return err
	}
	for _, url := range r.endpoints() {
		resp, err := client.Get(url + "/health")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
	}
	return nil
}

// compact has etcd forget all that was, but for what is.
func (r *rig) compact() error {
	client, err := r.client()
	if err != nil {
		return err
	}
	var now struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
	err = errors.New("there is no etcd")
	for _, url := range r.endpoints() { // the first that answers
		if err = post(client, url+"/v3/kv/range", `{"key":"AA=="}`, &now); err != nil {
			continue
		}
		if err = post(client, url+"/v3/kv/compaction", `{"revision":"`+now.Header.Revision+`","physical":true}`, nil); err == nil {
			return nil
		}
	}
	return err
}

func post(client *http.Client, url, body string, answer any) error {
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

func (r *rig) isEtcd(n *node) bool { return slices.Contains(r.etcds, n) }

// certificates makes a CA of etcd's own, never the mesh's, and a certificate without a common name.
func (r *rig) certificates() error {
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for i := range r.settings.etcds {
		leaf.IPAddresses = append(leaf.IPAddresses, net.IPv4(10, 77, 0, byte(21+i)))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	for name, c := range map[string]*x509.Certificate{caFile: ca, certFile: leaf} {
		public := &key.PublicKey
		if name == caFile {
			public = &caKey.PublicKey
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, public, caKey)
		if err != nil {
			return err
		}
		if err := r.write(name, "CERTIFICATE", der); err != nil {
			return err
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return r.write(keyFile, "PRIVATE KEY", der)
}

func (r *rig) write(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(r.settings.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// keepYesterday copies what etcd has, while it does not run, for restoring.
func (r *rig) keepYesterday(ctx context.Context) error {
	if len(r.etcds) == 0 {
		return nil
	}
	err := r.replaceEtcd(func(n *node) error { return sh("cp", "-a", "--sparse=always", r.etcdHas(n), r.yesterday(n)) })
	if err != nil {
		return err
	}
	return process.Until(ctx, "etcd", timeout, r.etcdAnswers)
}

func (r *rig) etcdHas(n *node) string   { return filepath.Join(r.data(n.name), "member") }
func (r *rig) yesterday(n *node) string { return r.data(n.name + "-yesterday") }

// replaceEtcd ends all members of etcd, does something with what each has, and starts them again.
func (r *rig) replaceEtcd(each func(*node) error) error {
	for _, n := range r.etcds {
		r.kill(n)
	}
	for _, n := range r.etcds {
		if err := each(n); err != nil {
			return err
		}
	}
	for _, n := range r.etcds {
		if err := r.start(n); err != nil {
			return err
		}
	}
	return nil
}

// restoring ends etcd, which comes back with what it had in the beginning, or with nothing. All that was decided since then is known to
// hubs alone.
func (r *rig) restoring(wiped bool) (string, []string, func() error) {
	if len(r.etcds) == 0 || r.etcdAnswers() != nil { // another accident has one of them
		return "", nil, nil
	}
	what := "restore etcd of yesterday"
	if wiped {
		what = "wipe etcd"
	}
	for _, n := range r.etcds {
		r.kill(n)
	}
	return what, names(r.etcds), func() error {
		return r.replaceEtcd(func(n *node) error {
			err := os.RemoveAll(r.etcdHas(n))
			if err == nil && !wiped {
				err = sh("cp", "-a", "--sparse=always", r.yesterday(n), r.etcdHas(n))
			}
			return err
		})
	}
}
