package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ztm/scripts/process"
)

// syncthing is the name of its rows, where it is installed.
const syncthing = "syncthing"

// devices are two of syncthing with one folder, straight to each other over TLS. Nothing is announced, and no relay is used.
type devices struct {
	*path
	folder map[string]string // where the folder is, by role
	api    map[string]string // address of the REST API, by role
}

// syncthingConfig is what a device is told: its folder, who the two are and where, and its own two addresses.
const syncthingConfig = `<configuration version="36">
  <folder id="bench" path="%s" type="%s" rescanIntervalS="0" fsWatcherEnabled="false">
    <device id="%s"></device><device id="%s"></device><minDiskFree unit="%%">0</minDiskFree>
  </folder>
  <device id="%s"><address>tcp://%s</address></device>
  <device id="%s"><address>tcp://%s</address></device>
  <gui enabled="true" tls="false"><address>%s</address><apikey>bench</apikey></gui>
  <options>
    <listenAddress>tcp://%s</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
    <relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser><urAccepted>-1</urAccepted>
    <setLowPriority>false</setLowPriority><crashReportingEnabled>false</crashReportingEnabled><autoUpgradeIntervalH>0</autoUpgradeIntervalH>
  </options>
</configuration>
`

// syncthingWay starts two devices. Files are published before the time runs: the receiver's folder is paused until then.
func (r *run) syncthingWay(ctx context.Context, dir string) (*way, error) {
	program, err := exec.LookPath("syncthing")
	if err != nil {
		return nil, fmt.Errorf("not installed")
	}
	s := &devices{path: &path{name: syncthing, procs: map[string]*process.Process{}, dir: dir}, folder: map[string]string{}, api: map[string]string{}}
	ids, at := map[string]string{}, map[string]string{}
	home := func(role string) string { return filepath.Join(dir, "syncthing-"+role) }
	for _, role := range []string{"exit", "entrance"} {
		if out, err := exec.CommandContext(ctx, program, "generate", "--no-default-folder", "--home", home(role)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		id, err := exec.CommandContext(ctx, program, "--device-id", "--home", home(role)).Output()
		if err != nil {
			return nil, err
		}
		ids[role], at[role], s.api[role] = strings.TrimSpace(string(id)), process.FreeAddress(), process.FreeAddress()
		s.folder[role] = filepath.Join(dir, "syncthing-files-"+role)
		if err := os.MkdirAll(filepath.Join(s.folder[role], ".stfolder"), 0o700); err != nil {
			return nil, err
		}
	}
	for role, kind := range map[string]string{"exit": "sendonly", "entrance": "receiveonly"} {
		config := fmt.Sprintf(syncthingConfig, s.folder[role], kind, ids["exit"], ids["entrance"], ids["exit"], at["exit"], ids["entrance"], at["entrance"], s.api[role], at[role])
		if err := os.WriteFile(filepath.Join(home(role), "config.xml"), []byte(config), 0o600); err != nil {
			return nil, err
		}
		// Without its own watchman: what is measured and ended is the process that does the work.
		if s.procs[role], err = r.Start("syncthing-"+role, "env", "STMONITORED=yes", program, "serve", "--no-browser", "--no-upgrade", "--home", home(role)); err != nil {
			return nil, err
		}
	}
	for role := range s.api {
		if err := process.Until(ctx, "syncthing at the "+role, 60*time.Second, func() error { return s.call(ctx, role, "GET", "system/ping", "", nil) }); err != nil {
			return nil, err
		}
	}
	return &way{path: s.path, copy: func(string) error { return s.fetch(ctx) }, publish: func(from string) error { return s.offer(ctx, from) }}, nil
}

// call asks the REST API of a device.
func (s *devices) call(ctx context.Context, role, method, path, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.api[role]+"/rest/"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", "bench")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, b)
	}
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func (s *devices) pause(ctx context.Context, paused bool) error {
	return s.call(ctx, "entrance", "PATCH", "config/folders/bench", fmt.Sprintf(`{"paused":%v}`, paused), nil)
}

// offer puts what is in a directory into the sender's folder, in place of what was there, and has it hashed.
func (s *devices) offer(ctx context.Context, from string) error {
	if err := s.pause(ctx, true); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "rsync", "-a", "--delete", "--exclude", ".stfolder", from+"/", s.folder["exit"]+"/").CombinedOutput()
	if err != nil {
		return fmt.Errorf("rsync: %w: %s", err, out)
	}
	return s.call(ctx, "exit", "POST", "db/scan?"+url.Values{"folder": {"bench"}}.Encode(), "", nil)
}

// fetch lets the receiver go, and waits until it has all.
func (s *devices) fetch(ctx context.Context) error {
	type status struct {
		State                               string
		LocalFiles, GlobalFiles, LocalBytes int64
		NeedFiles, NeedDeletes, GlobalBytes int64
	}
	var there status
	if err := s.call(ctx, "exit", "GET", "db/status?folder=bench", "", &there); err != nil {
		return err
	}
	if err := s.pause(ctx, false); err != nil {
		return err
	}
	return process.Until(ctx, "the folder is in sync", 20*time.Minute, func() error {
		var here status
		if err := s.call(ctx, "entrance", "GET", "db/status?folder=bench", "", &here); err != nil {
			return err
		}
		if here.State != "idle" || here.NeedFiles+here.NeedDeletes > 0 || here.LocalFiles != there.LocalFiles || here.LocalBytes != there.LocalBytes {
			return fmt.Errorf("it has %+v of %+v", here, there)
		}
		return nil
	})
}
