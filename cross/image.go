package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The documents of the OCI image format, as much as there is of them in an image of one layer:
//
//	index.json -> index of platforms -> manifest -> config, layer
//
// https://github.com/opencontainers/image-spec

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type imageConfig struct {
	platform
	Created time.Time    `json:"created"`
	Config  imageRun     `json:"config"`
	RootFS  imageRootFS  `json:"rootfs"`
	History []imageEvent `json:"history"`
}

type imageRun struct {
	User         string              `json:"User"`
	Env          []string            `json:"Env"`
	Entrypoint   []string            `json:"Entrypoint"`
	Cmd          []string            `json:"Cmd"`
	Volumes      map[string]struct{} `json:"Volumes"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts"`
}

type imageRootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type imageEvent struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// imageUser is the account that the program has in a container. It is a number: a kubelet that must
// not run root cannot tell who a name is.
const imageUser = 65532

// image collects an image for several architectures in the directory root, in the OCI image layout.
// Nothing is in it but the program and the directory for its data.
type image struct {
	root      string
	platforms []descriptor
}

// blob writes a blob and describes it.
func (m *image) blob(media string, data []byte) (descriptor, error) {
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	dir := filepath.Join(m.root, "blobs", "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return descriptor{}, err
	}
	err := os.WriteFile(filepath.Join(dir, name), data, 0o644)
	return descriptor{MediaType: media, Digest: "sha256:" + name, Size: int64(len(data))}, err
}

func (m *image) document(media string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return m.blob(media, data)
}

// add adds a target.
func (m *image) add(r Release, t Target, program []byte) error {
	if t.Image == "" {
		return nil
	}
	p := platform{OS: "linux"}
	p.Architecture, p.Variant, _ = strings.Cut(t.Image, "/")
	layer, err := tarball(append([]entry{dir("usr"), dir("usr/bin"), dir("var"), dir("var/lib"), {"var/lib/ztm/", 0o700 | os.ModeDir, nil, imageUser},
		{"tmp/", 0o777 | os.ModeDir, nil, 0}},
		binaries("usr/bin", program)...), r.Built)
	if err != nil {
		return err
	}
	packed, err := gzipped(layer)
	if err != nil {
		return err
	}
	layerBlob, err := m.blob(mediaLayer, packed)
	if err != nil {
		return err
	}
	config, err := m.document(mediaConfig, imageConfig{
		platform: p, Created: r.Built,
		Config: imageRun{
			User:       fmt.Sprintf("%d:%d", imageUser, imageUser),
			Env:        []string{"PATH=/usr/bin", "ZTM_DATA=/var/lib/ztm", "HOME=/var/lib/ztm"},
			Entrypoint: []string{"/usr/bin/ztm"}, Cmd: []string{"run", "agent"},
			Volumes: map[string]struct{}{"/var/lib/ztm": {}}, ExposedPorts: map[string]struct{}{"8888/tcp": {}},
		},
		RootFS:  imageRootFS{"layers", []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
		History: []imageEvent{{r.Built, "ztm " + r.Version}},
	})
	if err != nil {
		return err
	}
	d, err := m.document(mediaManifest, manifest{2, mediaManifest, config, []descriptor{layerBlob}})
	if err != nil {
		return err
	}
	d.Platform = &p
	m.platforms = append(m.platforms, d)
	return nil
}

// finish writes what names the platforms. It does nothing for an image without any.
func (m *image) finish(r Release) error {
	if len(m.platforms) == 0 {
		return nil
	}
	all, err := m.document(mediaIndex, index{2, mediaIndex, m.platforms})
	if err != nil {
		return err
	}
	all.Annotations = map[string]string{"org.opencontainers.image.ref.name": r.Version}
	top, err := json.Marshal(index{2, mediaIndex, []descriptor{all}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(m.root, "index.json"), top, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.root, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}
