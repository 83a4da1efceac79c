package pve

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// write puts files into a cluster file system.
func write(t *testing.T, d Dir, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(string(d), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Goal: HA's files are read as Proxmox reads them, with its defaults. Texts are as ha-manager 5 and the
// groups of 4 write them.
func TestHA(t *testing.T) {
	d := folder(t, "pve1", "pve2")
	write(t, d, map[string]string{
		"ha/resources.cfg": "vm: 101\n\tcomment a: b\n\tgroup fast\n\tmax_relocate 2\n\tmax_restart 0\n\n# note\nct: 7\n\tstate stopped\n\nvm: 100\n\tstate enabled\nnonsense\n\n",
		"ha/rules.cfg": "node-affinity: three\n\tnodes pve1:2,pve2,pve3\n\tresources vm:100,ct:7\n\tstrict 1\n\n" +
			"node-affinity: off\n\tdisable\n\tnodes pve1\n\tresources vm:100\n\nresource-affinity: apart\n\taffinity negative\n\tresources vm:100,vm:101\n",
		"ha/groups.cfg": "group: fast\n\tnodes pve2:1;pve1\n\trestricted 0\n\ngroup: unused\n\tnodes pve1\n",
		"ha/manager_status": `{"master_node":"pve1","node_status":{"pve1":"online","pve2":"maintenance"},` +
			`"service_status":{"vm:100":{"node":"pve1","state":"migrate","target":"pve2","uid":"x"}},"timestamp":1}`,
		"datacenter.cfg": "keyboard: de\nha: shutdown_policy=migrate\n",
		".members":       `{"nodename": "pve1", "cluster": { "name": "c", "nodes": 2, "quorate": 1 },"nodelist": {"pve2": { "id": 2, "online": 0},"pve1": { "id": 1, "online": 1, "ip": "192.0.2.1"}}}`,
	})
	resources, err := d.Resources()
	want := []Resource{{"ct:7", "stopped", 1, 1, ""}, {"vm:100", "started", 1, 1, ""}, {"vm:101", "started", 0, 2, "fast"}}
	if err != nil || !reflect.DeepEqual(resources, want) {
		t.Errorf("resources %+v, %v", resources, err)
	}
	rules, err := d.Affinities(resources)
	if err != nil || !reflect.DeepEqual(rules, []Affinity{
		{"three", []string{"vm:100", "ct:7"}, []string{"pve1", "pve2", "pve3"}, true},
		{"fast", []string{"vm:101"}, []string{"pve2", "pve1"}, false},
	}) {
		t.Errorf("affinities %+v, %v", rules, err)
	}
	status, err := d.ManagerStatus()
	if err != nil || status.Nodes["pve2"] != "maintenance" || status.Services["vm:100"] != (ServiceStatus{"pve1", "migrate", "pve2"}) || status.Master != "pve1" {
		t.Errorf("manager %+v, %v", status, err)
	}
	if policy, err := d.ShutdownPolicy(); err != nil || policy != "migrate" {
		t.Errorf("policy %q, %v", policy, err)
	}
	if q, err := d.Quorum(); err != nil || !reflect.DeepEqual(q, Quorum{true, []string{"pve1"}}) {
		t.Errorf("quorum %+v, %v", q, err)
	}
}

// Goal: guests and storages are found with what of them lies where; snapshots and unused disks are not.
func TestGuests(t *testing.T) {
	d := folder(t, "pve1", "pve2")
	write(t, d, map[string]string{
		"storage.cfg": "dir: local\n\tpath /var/lib/vz\n\ntrinas: vms\n\tcontent images\n\tnodes pve1,pve2\n\n" +
			"trinas: other\n\ttrinas-volume v2\n\ntrinas: gone\n\tdisable\n",
		"nodes/pve1/qemu-server/100.conf": "#note: x\nagent: 1\nname: web\nide2: vms:iso/debian.iso,media=cdrom,size=1G\nide3: none,media=cdrom\n" +
			"scsi0: vms:100/vm-100-disk-0.qcow2,discard=on,size=8G\nscsi1: file=other:9000/base-9000-disk-0.qcow2/100/vm-100-disk-1.qcow2\n" +
			"unused0: vms:100/vm-100-disk-7.raw\nefidisk0: local:100/efi.raw\nscsihw: virtio-scsi-single\n\n[before]\nname: old\nscsi2: vms:100/vm-100-disk-9.raw\n",
		"nodes/pve2/lxc/7.conf":            "hostname: dns\nrootfs: vms:7/vm-7-disk-0.raw,size=8G\nmp0: volume=vms:7/vm-7-disk-1.raw,mp=/data\n",
		"nodes/pve2/qemu-server/notes.txt": "x",
	})
	storages, err := d.Storages()
	if err != nil || !reflect.DeepEqual(storages, []Storage{{"vms", "vms", []string{"pve1", "pve2"}}, {"other", "v2", []string{}}}) {
		t.Errorf("storages %+v, %v", storages, err)
	}
	guests, err := d.Guests()
	want := []Guest{
		{"ct:7", 7, "pve2", "dns", []Disk{{"vms", "images/7/vm-7-disk-0.raw"}, {"vms", "images/7/vm-7-disk-1.raw"}}},
		{"vm:100", 100, "pve1", "web", []Disk{{"vms", "template/iso/debian.iso"}, {"vms", "images/100/vm-100-disk-0.qcow2"},
			{"other", "images/100/vm-100-disk-1.qcow2"}, {"local", "images/100/efi.raw"}}},
	}
	if err != nil || !reflect.DeepEqual(guests, want) {
		t.Errorf("guests %+v, %v", guests, err)
	}
}

// Goal: a Proxmox that has never used HA is no error; files that cannot be understood are.
func TestHA_EmptyAndBad(t *testing.T) {
	d := folder(t, "pve1")
	resources, err := d.Resources()
	if rules, err2 := d.Affinities(resources); err != nil || err2 != nil || len(resources)+len(rules) > 0 {
		t.Errorf("%v, %v, %v, %v", resources, rules, err, err2)
	}
	if policy, err := d.ShutdownPolicy(); err != nil || policy != "conditional" {
		t.Errorf("policy %q, %v", policy, err)
	}
	if q, err := d.Quorum(); err != nil || q.Quorate {
		t.Errorf("quorum %+v, %v", q, err)
	}
	write(t, d, map[string]string{"ha/manager_status": "{", ".members": "x", "storage.cfg": string(make([]byte, maxFileBytes+1))})
	if _, err := d.ManagerStatus(); err == nil {
		t.Error("half a status was read")
	}
	if _, err := d.Quorum(); err == nil {
		t.Error("nonsense was read")
	}
	if _, err := d.Storages(); err == nil {
		t.Error("a file that is too large was read")
	}
}
