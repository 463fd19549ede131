package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io/fs"
	"time"
)

// entry is a file, a directory or a link of an archive. The same entries always make the same
// bytes: everything else that formats note about a file is left out or the same for all.
type entry struct {
	path string
	mode fs.FileMode // with fs.ModeDir or fs.ModeSymlink
	data []byte      // of a link: where it leads
	user int         // whose it is; 0 is root
}

func file(path string, mode fs.FileMode, data []byte) entry { return entry{path, mode, data, 0} }
func dir(path string) entry                                 { return entry{path + "/", fs.ModeDir | 0o755, nil, 0} }
func link(path, to string) entry                            { return entry{path, fs.ModeSymlink | 0o777, []byte(to), 0} }

// tarball makes a tar archive of the entries, in their order.
func tarball(entries []entry, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.path, Mode: int64(e.mode.Perm()), ModTime: at, Format: tar.FormatUSTAR, Uname: "root", Gname: "root"}
		if e.user != 0 {
			h.Uid, h.Gid, h.Uname, h.Gname = e.user, e.user, "", ""
		}
		switch e.mode.Type() {
		case fs.ModeDir:
			h.Typeflag = tar.TypeDir
		case fs.ModeSymlink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, string(e.data)
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.data))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(e.data); err != nil {
				return nil, err
			}
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// gzipped compresses data.
func gzipped(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// tarGz makes a compressed tar archive.
func tarGz(entries []entry, at time.Time) ([]byte, error) {
	data, err := tarball(entries, at)
	if err != nil {
		return nil, err
	}
	return gzipped(data)
}

// zipped makes a zip archive, which has no links in it.
func zipped(entries []entry, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.path, Method: zip.Deflate, Modified: at.UTC()}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(e.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// binaries are the program and its other names in a directory.
func binaries(in string, program []byte) []entry {
	return []entry{
		file(in+"/ztm", 0o755, program),
		link(in+"/ztm-agent", "ztm"),
		link(in+"/ztm-hub", "ztm"),
	}
}

// bundle is the archive for people: a directory with the program and the licence. Windows gets a
// zip, without links: `ztm install-links` makes what works there.
func (r Release) bundle(t Target, program, licence []byte) (name string, data []byte, err error) {
	base := "ztm-" + r.Version + "-" + t.File()
	if t.OS == "windows" {
		data, err = zipped([]entry{file(base+"/ztm.exe", 0o755, program), file(base+"/LICENSE", 0o644, licence)}, r.Built)
		return base + ".zip", data, err
	}
	entries := append([]entry{dir(base)}, binaries(base, program)...)
	data, err = tarGz(append(entries, file(base+"/LICENSE", 0o644, licence)), r.Built)
	return base + ".tar.gz", data, err
}
