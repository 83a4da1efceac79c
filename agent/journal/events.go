package journal

import (
	"log/slog"
	"time"
)

// Events returns every event, by area. An event that is no longer used is removed; its name and id
// stay unused. A new one gets its id from "journalctl --new-id128" (systemd-id128(1)).
func Events() []Event {
	return []Event{
		// The agent.
		{
			Name: "agent-ready", ID: "fe3ac2634f7248e3939699595fce152d", Level: slog.LevelInfo,
			Ends: "agent-stopping",
			Text: "The trinas agent serves its volumes",
			Meaning: "The agent has replayed its log and answers NFS requests on this node. What systemd " +
				"orders after it is started now.",
		},
		{
			Name: "agent-not-serving", ID: "48c39c9dd07444b5b669b8f07d3bf07f", Level: slog.LevelWarn,
			Text: "The agent says that it is ready although it does not serve yet",
			Meaning: "It has waited two minutes for the other nodes, for the reason in the line, and lets " +
				"systemd go on. Requests wait until a majority of the nodes is there.",
			Next: "See that the other nodes are up: trinas status.",
		},
		{
			Name: "agent-waiting", ID: "269fdeb6dddb45f29e205b88542a97ad", Level: slog.LevelInfo,
			Text:    "The trinas agent waits to become a member of a cluster",
			Meaning: "The data directory belongs to no cluster yet.",
			Next: "Run trinas init on the first node of a cluster; on any other, the trinas join line " +
				"that trinas init or trinas token printed.",
		},
		{
			Name: "agent-stopping", ID: "a4ac62013a9c49619fb189e028295a78", Level: slog.LevelInfo,
			Text: "The trinas agent was asked to stop",
			Meaning: "It hands over what it is the primary of, finishes the requests under way and ends, " +
				"within 10 seconds.",
		},
		{
			Name: "agent-failed", ID: "07b4739e72d04330852db81214acbef7", Level: slog.LevelError,
			Text: "The trinas agent has ended because of an error",
			Meaning: "This node serves nothing until the agent runs again; its guests' requests wait. " +
				"systemd starts it again by itself. The other nodes go on as long as a majority is " +
				"there.",
			Next: "Mend what the line names. systemctl status trinas shows whether the agent is back.",
		},
		{
			Name: "requests-dropped", ID: "8b0dfa2ba6a94e3380c3cb48f9411a5d", Level: slog.LevelWarn,
			Text: "Requests were dropped at the agent's stop",
			Meaning: "They did not end within 5 seconds, mostly because a volume had no primary. Clients " +
				"with hard mounts send them again: nothing is lost.",
		},
		{
			Name: "hand-over-failed", ID: "55d50b2eec6f488990a062677cece556", Level: slog.LevelWarn,
			Text: "A stopping agent could not hand a volume over",
			Meaning: "Nobody else could take over in time. If other replicas are there they choose a " +
				"primary within seconds; else the volume waits until a majority is back.",
			Next: "If volumes stay without a primary: trinas status on another node.",
		},
		{
			Name: "oom-victim", ID: "fd9490e7791e4579a9d04e8b504786c1", Level: slog.LevelWarn,
			Text:    "The agent cannot protect itself from the kernel's OOM killer",
			Meaning: "When this machine's memory runs out the agent may be killed, and guests of this node stand still until it runs again.",
			Next:    "Start it by its systemd unit, or with CAP_SYS_RESOURCE.",
		},
		{
			Name: "no-io-flusher", ID: "6e3487e4a57f4c86918bf83afad3adda", Level: slog.LevelWarn,
			Text: "The agent runs without PR_SET_IO_FLUSHER",
			Meaning: "When memory is short the kernel may make the agent wait for the writing of pages " +
				"that only the agent can take: guests of this node could stall.",
			Next: "Run the agent by its unit, or with CAP_SYS_RESOURCE.",
		},
		{
			Name: "profiles-ended", ID: "b92616e8a745473da6ee52405d1e24e1", Level: slog.LevelWarn,
			Text:    "The profiling server has ended",
			Meaning: "Only the profiles of the hidden option --pprof are gone.",
		},
		{
			Name: "metrics-ended", ID: "f8affdac2299407cab3b99a719561768", Level: slog.LevelWarn,
			Text:    "Prometheus gets no metrics of this node",
			Meaning: "The address of metrics.listen cannot be used. Nothing else depends on it.",
			Next:    "Set another address, or stop what listens there, then systemctl restart trinas.",
		},
		{
			Name: "load-unknown", ID: "07287649c11b43e8b596e6c60791bd77", Level: slog.LevelWarn,
			Text:    "This machine's load cannot be measured",
			Meaning: "trinas load shows none of this node; nothing else depends on it.",
			Next:    "See whether /proc is mounted, and whether the unit's sandbox was changed.",
			Every:   time.Hour,
		},
		{
			Name: "systemd-deaf", ID: "dd7ba73555bf486cb2c17acaf6472e45", Level: slog.LevelWarn,
			Text: "systemd could not be told of the agent's state",
			Meaning: "Readiness, status line and watchdog travel over the socket that NOTIFY_SOCKET " +
				"names. Without them systemd may stop the agent.",
			Next:  "Start the agent by systemctl start trinas.",
			Every: time.Minute,
		},
		{
			Name: "control-ended", ID: "6e6daac31d6e40aea3a9140f4cc6da36", Level: slog.LevelError,
			Text: "The control interface has ended",
			Meaning: "trinas status and all other commands fail on this node; volumes are served as " +
				"before.",
			Next: "systemctl restart trinas",
		},
		{
			Name: "control-trouble", ID: "88e8dce9daf74008a97841b38414fc5b", Level: slog.LevelWarn,
			Text:    "Trouble on the control interface",
			Meaning: "A command's connection broke, or its request could not be answered.",
			Next:    "Repeat the command.",
			Every:   time.Minute,
		},

		{
			Name: "events-not-kept", ID: "2c6ed346b76049a98273538651f50cc4", Level: slog.LevelWarn,
			Text:    "Events are not kept over the agent's next restart",
			Meaning: "trinas events shows those since the agent's start; the journal has all.",
			Next:    "Look at the file system of data_dir.",
		},

		// The log and the data directory.
		{
			Name: "log-failed", ID: "aa8e25b361bb4ff9a131e2a68d2c076b", Level: slog.LevelError,
			Text: "The write-ahead log of this node has failed",
			Meaning: "A write or a sync failed. What a disk has kept after that is not known, so the " +
				"agent never tries again over it: it ends, and the other nodes take over. Nothing " +
				"that was acknowledged is lost.",
			Next: "Look at the kernel's messages for the disk; mend or replace it. The agent starts " +
				"again by itself and replays its log.",
		},
		{
			Name: "log-stuck", ID: "22392448443a408ca953d1a16ada303f", Level: slog.LevelError,
			Text: "The disk of the write-ahead log does not answer",
			Meaning: "A write to the log has taken longer than log.stuck_after. The agent hands over " +
				"what it is the primary of and ends, so that the other nodes go on. The kernel may " +
				"hold the process until the disk answers; it then starts again by itself.",
			Next: "Look at the kernel's messages for the disk and at what shares it (backups, " +
				"snapshots, a full pool).",
		},
		{
			Name: "log-no-room", ID: "fea1758f2e2844aca67841fa5196f3e0", Level: slog.LevelWarn,
			Text: "No room for the next segment of the write-ahead log",
			Meaning: "The agent goes on with the segments it has. When they are full its log fails, and " +
				"the agent ends.",
			Next:  "Free space on the file system of data_dir, or lower log.limit.",
			Every: 10 * time.Minute,
		},
		{
			Name: "log-no-index", ID: "7c1f0a52d9b64c6f8f0e0c3a4f1b9d27", Level: slog.LevelWarn,
			Text: "The index of the write-ahead log could not be written",
			Meaning: "The agent is stopping. Nothing is lost: its next start reads the whole log, which takes " +
				"seconds instead of milliseconds.",
			Next: "Look at the reason and at the disk under data_dir.",
		},
		{
			Name: "log-slow", ID: "2ea96805314a4a2b8c84986a9ec05933", Level: slog.LevelWarn,
			Text: "The disk of the write-ahead log is slow",
			Meaning: "Syncs take too long again and again. This node hands over what it is the primary " +
				"of and does not become one, so that guests do not wait for its disk; its replicas " +
				"stay up to date as well as they can.",
			Next: "Look after the disk under data_dir, and at what shares it.",
		},
		{
			Name: "log-fast", ID: "3810ebbf139040c8960f93a281e07595", Level: slog.LevelInfo,
			Ends:    "log-slow",
			Text:    "The disk of the write-ahead log is fast again",
			Meaning: "This node may be a primary again.",
		},
		{
			Name: "log-not-closed", ID: "f64d21da7a4547e091aef6428bcbad74", Level: slog.LevelError,
			Text: "The write-ahead log was not closed cleanly",
			Meaning: "A last write failed or was not possible. What was acknowledged is safe on a " +
				"majority of the nodes.",
			Next: "Look at the kernel's messages for the disk.",
		},
		{
			Name: "space-unknown", ID: "5a8bb181ee8b429389ecfe18886b199b", Level: slog.LevelError,
			Text: "The free space of the data directory cannot be read",
			Meaning: "It counts as none, so that volumes with a replica here refuse writes as if they " +
				"were full.",
			Next:  "Look at the file system of data_dir.",
			Every: time.Minute,
		},

		// Volumes and replicas.
		{
			Name: "primary", ID: "127a80d93e4042e3aea822d3b21e2ec6", Level: slog.LevelInfo,
			Shared: true,
			Text:   "A volume has a new primary",
			Meaning: "Requests of all nodes go to it. Without the field TRINAS_VOLUME it is the " +
				"cluster's own state that has a new primary.",
		},
		{
			Name: "replica-failed", ID: "3cee1601cb8b441088a6340c3502a4d2", Level: slog.LevelError,
			Text: "A replica has left service",
			Meaning: "Its disk did not do what it must, or its files are damaged. The volume goes on " +
				"with its other replicas, and this node's guests are served through them. Until it " +
				"is mended, one more failure may stop the volume.",
			Next: "Mend the disk. The agent tries by itself whether it answers again; at once by trinas volume " +
				"retry VOLUME on this node. If the replica's files or its log are damaged: trinas volume rebuild VOLUME.",
			// The volume and its Raft group both say so.
			Every: time.Minute,
		},
		{
			Name: "replica-back", ID: "6194f5b6ff314e129bebbf188f0f5a5c", Level: slog.LevelInfo,
			Ends:    "replica-failed",
			Text:    "A replica is back in service",
			Meaning: "The disk of a replica that had failed answers again. The replica replays its log; trinas status shows when it is UpToDate.",
		},
		{
			Name: "rebuild-begin", ID: "2e211b9084b14c1eba1161c590e2d2e6", Level: slog.LevelInfo,
			Text: "A replica is made anew from the others",
			Meaning: "An admin has asked for it (trinas volume rebuild). The replica leaves the volume, which goes on with the others, " +
				"and joins again, empty; what it had is kept in rebuild/ below data_dir until the new one is complete, unless it was to be discarded.",
			Next: "trinas status shows how far it is.",
		},
		{
			Name: "rebuild-end", ID: "93438d1003714bff837d6164c73e5f03", Level: slog.LevelInfo,
			Ends:    "rebuild-begin",
			Text:    "A replica was made anew",
			Meaning: "It has everything and counts again. What it had before is removed.",
		},
		{
			Name: "rebuild-held", ID: "5c5b1a8fc2234879aab6a6dd52fa0786", Level: slog.LevelWarn,
			Text:    "A replica cannot be made anew now",
			Meaning: "The disk did not do what it must, for the reason in the line. The volume goes on with its other replicas.",
			Next:    "Mend the disk. It is tried again by itself; if it was forgotten how far it is (trinas status shows no replica of this node), trinas volume rebuild VOLUME.",
			Every:   time.Minute,
		},
		{
			Name: "verify-begin", ID: "20d5bc0a9f2a4818bda9d84606b331eb", Level: slog.LevelInfo,
			Text:    "A verification has begun",
			Meaning: "The volume's replicas are compared byte for byte while it is in use; trinas verify --status shows how far it is.",
		},
		{
			Name: "verify-end", ID: "ed91ddfefefe44769e135a95f80c46ec", Level: slog.LevelInfo,
			Ends:    "verify-begin",
			Text:    "A verification has ended",
			Meaning: "The line says how many ranges were found to differ, and how many of them are damaged still.",
			Next:    "If damaged is not 0: trinas verify VOLUME --repair, and see the lines verify-damage.",
		},
		{
			Name: "verify-damage", ID: "115302559b394556bab1f98759b1b5a7", Level: slog.LevelError,
			Text:    "Replicas of a volume differ",
			Meaning: "What the nodes named have of a range of the file is not what most replicas have, is missing or cannot be read. Until it is repaired, who reads that range from such a replica gets wrong bytes; a primary that has it hands over. Where no majority agrees it stays as it is, on all.",
			Next:    "trinas verify VOLUME --repair copies what most replicas have, unless that is on its way (REPAIR). Look at the kernel's messages for the disk of the node named, and at what else writes below its data directory. Where no majority agrees, restore the file from a backup.",
		},
		{
			Name: "verify-repaired", ID: "b22845b62f8b42ad832fbf6efdf61b98", Level: slog.LevelInfo,
			Text:    "A damaged range is repaired",
			Meaning: "The nodes named have what most replicas have, and that was compared again.",
		},
		{
			Name: "verify-paused", ID: "d6df5e6d262c4b96ad21e1797fe05fa2", Level: slog.LevelWarn,
			Text:    "A verification waits",
			Meaning: "All replicas have to be in touch, in service and of a version that can verify. It goes on by itself.",
			Next:    "See the reason in the line, and trinas status.",
			Every:   time.Minute,
		},
		{
			Name: "verify-note-lost", ID: "d02c4945ed684d63a39878187e73819f", Level: slog.LevelWarn,
			Text:    "When a replica was verified last is not known",
			Meaning: "The file with it cannot be read. The other replicas know, too; else the next verification comes earlier.",
		},
		{
			Name: "replica-replaced", ID: "44378d31c351434eafcc124c02d59b6a", Level: slog.LevelWarn,
			Text:    "A node was out of touch for long: another gets its replica",
			Meaning: "placement.replace_after has passed. The new replica is copied from the others; the old node stays a member, and deletes what it has of the volume when it is back.",
			Next:    "trinas status shows how far it is. trinas node remove takes a node out of the cluster that does not come back.",
		},
		{
			Name: "replica-not-closed", ID: "29fc84b729254ecf8f5849caae6d1942", Level: slog.LevelError,
			Text:    "A replica was not closed cleanly",
			Meaning: "Its files could not be written out. The log has what is missing.",
			Next:    "If it comes again look at the kernel's messages for the disk.",
		},
		{
			Name: "resync-begin", ID: "858b85a9f89d4d79a8f402baaa97f257", Level: slog.LevelInfo,
			Text: "A replica is being brought up to date",
			Meaning: "It was away for longer than the log reaches: what has changed since is copied from " +
				"the primary.",
			Next: "trinas status shows how far it is.",
		},
		{
			Name: "resync-end", ID: "ddcfc828fd8d439d960c34ece89639b7", Level: slog.LevelInfo,
			Text:    "A replica is up to date again",
			Meaning: "The copying is done; the rest comes from the log.",
		},
		{
			Name: "replica-removed", ID: "91b2e743c5ee46858f1df13d5e290a1e", Level: slog.LevelInfo,
			Text:    "A replica was removed from this node",
			Meaning: "Its volume was deleted, or is kept on other nodes now.",
		},
		{
			Name: "replica-not-removed", ID: "9988c98e1d324bb6a6d53517e23462dd", Level: slog.LevelError,
			Text: "What is left of a replica cannot be removed",
			Meaning: "The volume is not kept on this node any more, but its files take space until the " +
				"agent is started again.",
			Next:  "Look at the file system of data_dir, then systemctl restart trinas.",
			Every: time.Minute,
		},
		{
			Name: "volume-moved", ID: "73b34ec38dea421b95f87ce21102bc8e", Level: slog.LevelInfo,
			Shared: true,
			Text:   "A volume has moved to other nodes",
			Meaning: "The nodes that it moved to have everything; those that it left remove their " +
				"replicas.",
		},
		{
			Name: "placement-failed", ID: "e9d458db69114667ab3bf3103d624862", Level: slog.LevelWarn,
			Text:    "It cannot be changed now which nodes keep a volume",
			Meaning: "It is tried again by itself.",
			Next:    "If it goes on: trinas status.",
			Every:   time.Minute,
		},
		{
			Name: "image-active", ID: "8b419602111b437da8c1701d5fa2e22c", Level: slog.LevelInfo,
			Text:    "An image is active on this node",
			Meaning: "From now on only this node writes to it.",
		},
		{
			Name: "image-inactive", ID: "28f66e2f951f43409d7fdd1da9690074", Level: slog.LevelInfo,
			Text:    "An image is no longer active on this node",
			Meaning: "Its guest has ended, or moved.",
		},
		{
			Name: "image-fenced", ID: "395d28caf83048ba8b7b86ac926ce43c", Level: slog.LevelError,
			Text:    "Writes to an image are refused on this node",
			Meaning: "It was activated on another node since. Two guests on one image would destroy it.",
			Next:    "End what is left of its guest on this node.",
		},
		{
			Name: "guest-killed", ID: "7b892c8473a4449bbe617d8e71b9bf87", Level: slog.LevelError,
			Text: "A guest was killed, so that HA starts it on another node",
			Meaning: "Its I/O waited for a volume that this node is cut off from, while corosync has a " +
				"majority (ha.kill_stuck).",
			Next: "Look at the network between the agents (trinas status, trinas check).",
		},
		{
			Name: "guests-left", ID: "30156a0b0f7e4036b036783708862aff", Level: slog.LevelWarn,
			Text:    "Guests whose storage is stuck on this node are left as they are",
			Meaning: "Killing them would not help, or it cannot be made sure that it would, for the reason in the line.",
			Next:    "Look at the network between the agents (trinas status, trinas check).",
			Every:   time.Minute,
		},
		{
			Name: "ha-evacuated", ID: "ece0d829e4ff4bef8a11b582ba4cfc89", Level: slog.LevelWarn,
			Text: "HA is told to move this node's guests away",
			Meaning: "Its replica is out of service or the disk of its log is slow (ha.evacuate). The " +
				"maintenance mode ends by itself when the node has been well for ha.return_after.",
			Next: "Look after the disk under data_dir. ha-manager status shows how far HA is.",
		},
		{
			Name: "ha-returned", ID: "207d05d7261a467e972601f9ac22e495", Level: slog.LevelInfo,
			Text:    "HA is told that this node can have guests again",
			Meaning: "The node is well; the maintenance mode that the agent had begun has ended.",
		},
		{
			Name: "ha-evacuate-failed", ID: "97fa495a7d2b4d7dacc5d57f50291031", Level: slog.LevelWarn,
			Text:    "HA cannot be told to move guests away, or that they can come back",
			Meaning: "The command failed for the reason in the line. It is tried again every minute.",
			Next:    "See that /etc/pve has quorum. By hand: ha-manager crm-command node-maintenance.",
			Every:   time.Minute,
		},
		{
			Name: "operation-refused", ID: "c1c16cd810f04251ab7c62d91a34d98a", Level: slog.LevelWarn,
			Text: "A node could not carry out an operation",
			Meaning: "The other node's agent answered with an error. The request is sent again until it " +
				"succeeds.",
			Next:  "If it goes on: the log of that node says why.",
			Every: time.Minute,
		},
		{
			Name: "answer-garbled", ID: "0cab48e128fd4d30bda3e116b1386a25", Level: slog.LevelError,
			Text: "A node's answer cannot be understood",
			Meaning: "The request is sent again until it succeeds. Agents of versions that do not fit " +
				"may be the cause.",
			Next:  "Install the same version on all nodes.",
			Every: time.Minute,
		},
		{
			Name: "raft-error", ID: "3242d8308083470f9fd2ca048fbf6779", Level: slog.LevelError,
			Text: "The consensus library reports an error",
			Meaning: "It refused something that should not happen. Nothing was acknowledged because of " +
				"it.",
			Next:  "Report it with the lines around it.",
			Every: time.Minute,
		},

		// The cluster and its nodes.
		{
			Name: "peer-up", ID: "a43a7d591336424588fdd94144231c84", Level: slog.LevelInfo,
			Shared: true, Ends: "peer-down",
			Text:    "A node is connected",
			Meaning: "All connections to it stand.",
		},
		{
			Name: "peer-down", ID: "492f7d20907d4e768b3b63e8246e43c2", Level: slog.LevelWarn,
			Shared: true,
			Text:   "The connection to a node is lost",
			Meaning: "Its agent has stopped, or the network between has failed. Volumes go on while a " +
				"majority of their replicas can be reached.",
			Next: "If it stays: trinas status; then the agent on that node, and the network.",
		},
		{
			Name: "peer-unreachable", ID: "955de5c9d4f14899bb9d40c1c2c044d1", Level: slog.LevelWarn,
			Shared:  true,
			Text:    "A node cannot be connected to",
			Meaning: "The agent tries on, and says so again when the reason changes.",
			Next:    "See that the agent runs there, and that port 7370 is open between the nodes.",
		},
		{
			Name: "connection-refused", ID: "8231d9227a3b4bdc8a485fdb0444e6b1", Level: slog.LevelWarn,
			Text: "A connection from another machine was closed",
			Meaning: "It did not come from a node of this cluster, or speaks another version, or its " +
				"clock is off so that certificates do not hold.",
			Next: "If the address is one of your nodes: compare versions and clocks. Else find out " +
				"what it is.",
			Every: time.Minute,
		},
		{
			Name: "connections-crowded", ID: "d2efd2413843433f8941620d60610ee0", Level: slog.LevelWarn,
			Text:    "Too many connections at once on the port for nodes",
			Meaning: "New ones are closed until others have been greeted.",
			Next:    "Find out who connects; the port is for the cluster's nodes alone.",
			Every:   time.Minute,
		},
		{
			Name: "accept-failed", ID: "293eeb2ddf684ef1b1d3fc172b19f73e", Level: slog.LevelError,
			Text:    "The port for nodes takes no connections",
			Meaning: "Most likely the agent has no file descriptors left. It tries on.",
			Next:    "Raise LimitNOFILE of the unit.",
			Every:   time.Minute,
		},
		{
			Name: "message-dropped", ID: "0b50313d70db4615b3acdde8bb72f458", Level: slog.LevelError,
			Text:    "A message to another node was dropped",
			Meaning: "It cannot be sent as it is. The protocol repeats what is needed.",
			Next:    "Report it.",
			Every:   time.Minute,
		},
		{
			Name: "node-joined", ID: "93c531d505ad45549c3615cf7af36aab", Level: slog.LevelInfo,
			Shared: true,
			Text:   "A node has joined the cluster",
			Meaning: "It was admitted with a token and becomes a full member once it has the cluster's " +
				"state.",
		},
		{
			Name: "node-late", ID: "201a399548cd43ba82054868d8a60576", Level: slog.LevelWarn,
			Shared:  true,
			Text:    "A node that was admitted has not arrived",
			Meaning: "It is no longer expected, and counts for nothing.",
			Next:    "Let it join again, with a new token.",
		},
		{
			Name: "node-removed", ID: "ca34ecdeaf1f4ba686d3be833b2ad7f1", Level: slog.LevelInfo,
			Shared:  true,
			Text:    "A node was removed from the cluster",
			Meaning: "It keeps no replica any more and has no vote.",
		},
		{
			Name: "pve-joined", ID: "266df7ff9cfc4ed4b191d379a51447f4", Level: slog.LevelInfo,
			Text:    "This node has joined by itself",
			Meaning: "It found an invitation in the cluster file system of Proxmox VE.",
		},
		{
			Name: "pve-join-failed", ID: "7f543b7e48bd4b50bc9dc34a34527dd9", Level: slog.LevelWarn,
			Text: "This node cannot join by itself",
			Meaning: "An invitation is in the cluster file system of Proxmox VE, and using it failed for " +
				"the reason in the line. It is tried again.",
			Next: "Mend what the line names, or join by hand: trinas token on a member, trinas join " +
				"here.",
		},
		{
			Name: "pve-invite-failed", ID: "77f4cdef6f1e496faec720374bbec8c2", Level: slog.LevelWarn,
			Text:    "Nodes of Proxmox VE cannot join by themselves",
			Meaning: "Invitations cannot be kept in its cluster file system. Members are not affected.",
			Next: "See that /etc/pve is mounted and has quorum. trinas token and trinas join work " +
				"meanwhile.",
		},
		{
			Name: "pve-hangs", ID: "20e6dd53294b4055b96ea8838c787798", Level: slog.LevelWarn,
			Text:    "The agent did not wait for Proxmox VE's cluster file system",
			Meaning: "It was asked to stop while a join was under way or the file system did not answer.",
		},
		{
			Name: "join-failed", ID: "5bce7be8d05c47f9a8328c726281c47b", Level: slog.LevelWarn,
			Text:    "A node was not admitted",
			Meaning: "The line says why. Nothing was changed.",
			Next:    "Get a new line with trinas token, and run it on that node.",
		},
		{
			Name: "membership-refused", ID: "e75a46d0464d428aae74d8633d2cfd53", Level: slog.LevelWarn,
			Text:    "The cluster's membership cannot be changed now",
			Meaning: "It is tried again four times a second.",
			Next:    "If it goes on: trinas status.",
			Every:   time.Minute,
		},

		// The web page.
		{
			Name: "web-failed", ID: "2b7c93ade9494bf2921cad44bc476fdf", Level: slog.LevelWarn,
			Text:    "The web page cannot be served",
			Meaning: "Nothing else is concerned.",
			Next:    "Set web.listen to an address and port that are free, or to nothing; then systemctl restart trinas.",
		},
		{
			Name: "web-ended", ID: "8f1159fa8d554bccb6074399b0c5c5fb", Level: slog.LevelWarn,
			Text:    "The web page has ended",
			Meaning: "Nothing else is concerned.",
			Next:    "systemctl restart trinas",
		},
		{
			Name: "web-login", ID: "ed8a1e4373764f6e9a3f0adc8d15e4fa", Level: slog.LevelInfo,
			Text:    "Somebody has logged in to the web page",
			Meaning: "With a token from trinas web. The page only shows; the session lasts 12 hours.",
		},
		{
			Name: "web-login-refused", ID: "5c0e157859d14c3bb5b340f27aa669f3", Level: slog.LevelWarn,
			Text:    "A log-in to the web page was refused",
			Meaning: "The token was wrong, used or older than ten minutes, or too many were tried from there.",
			Next:    "Get a new link with trinas web. If it was nobody of yours: see who reaches web.listen.",
			Every:   time.Minute,
		},

		// Drills.
		{
			Name: "drill-begin", ID: "ca837e3c81fe4fe8bb4a82a769eff77f", Level: slog.LevelInfo,
			Shared: true,
			Text:   "A drill of a volume begins",
			Meaning: "Somebody has asked for it (trinas drill). Until drill-end a probe writes to the volume, and " +
				"nodes are struck: their messages about it are what was asked for.",
		},
		{
			Name: "drill-strike", ID: "d4eec71d07b44878a73bc8598c57d832", Level: slog.LevelWarn,
			Text:    "A drill strikes a node",
			Meaning: "The node named by TRINAS_PEER loses its primary, its agent or the speed of its log for a while, on purpose.",
		},
		{
			Name: "drill-end", ID: "fb385843cc8b415098ddd1db11e22a73", Level: slog.LevelInfo,
			Shared: true, Ends: "drill-begin",
			Text:    "A drill has ended",
			Meaning: "Nothing of it is left on this node.",
		},
		{
			Name: "drill-broken", ID: "f6d1501bd8e84999847f904d8bbf8e51", Level: slog.LevelWarn,
			Text: "A drill was not ended by those who asked for it",
			Meaning: "This node ends its part by itself. Before that, its probe's file (.trinas-drill- and the node's name) " +
				"stays in the volume.",
			Next:  "If the file stays: remove it.",
			Every: time.Minute,
		},

		// NFS.
		{
			Name: "nfs-ended", ID: "745457650fb744b5867754e31d3bb14f", Level: slog.LevelError,
			Text:    "The NFS server has stopped listening",
			Meaning: "The agent ends, and systemd starts it again.",
		},
		{
			Name: "nfs-address-missing", ID: "58fff74252ed494f88ed266d38acbfe8", Level: slog.LevelWarn,
			Text:    "No interface has an address of nfs.listen yet",
			Meaning: "Other hosts reach the NFS server there as soon as one has. This node's own clients are not concerned.",
			Next:    "If it stays so, correct nfs.listen or the network's configuration.",
		},
		{
			Name: "nfs-address-taken", ID: "856b874c430541439c1c99aca0da2acb", Level: slog.LevelWarn,
			Text:    "The NFS server cannot listen at an address of nfs.listen",
			Meaning: "Other hosts do not reach it there; the agent tries on. This node's own clients are not concerned.",
			Next:    "Stop the NFS server that is there, or correct nfs.listen.",
		},
		{
			Name: "nfs-listening", ID: "bf8e585ae5f34cf388515d79119f33f8", Level: slog.LevelInfo,
			Text:    "The NFS server listens at an address of nfs.listen now",
			Meaning: "It could not before (nfs-address-taken).",
		},
		{
			Name: "nfs-garbage", ID: "7d407d720e744655b4580a951092c4dd", Level: slog.LevelWarn,
			Text:    "A client of the NFS port does not speak NFS",
			Meaning: "Its connection was closed.",
			Next:    "Find out what connects to the port: a port scan, or a web browser.",
			Every:   time.Minute,
		},
		{
			Name: "nfs-accept-failed", ID: "fd4b86146c9c4195b78633bfc4010eb9", Level: slog.LevelWarn,
			Text:    "The NFS port takes no connections",
			Meaning: "Most likely the agent has no file descriptors left. It tries on.",
			Next:    "Raise LimitNOFILE of the unit.",
			Every:   time.Minute,
		},
		{
			Name: "nfs-crowded", ID: "a6b1da64fe4442f3ac0da99f1d5096a3", Level: slog.LevelWarn,
			Text:    "Too many NFS connections at once",
			Meaning: "Further ones are closed until others end.",
			Next:    "Find out who connects, or raise nfs.max_connections.",
			Every:   time.Minute,
		},
		{
			Name: "request-panic", ID: "3b72a72df67c484f892f4fc83b98d162", Level: slog.LevelError,
			Text:    "A request made its handler panic",
			Meaning: "A defect of trinas. That request was answered with an error; the others go on.",
			Next:    "Report the line: it has the place in the program.",
			Every:   time.Minute,
		},
		{
			Name: "portmap-refused", ID: "f376c28bb6bc4634b035d0b20f951797", Level: slog.LevelWarn,
			Text: "rpcbind does not register the NFS server",
			Meaning: "showmount, QEMU's own NFS client, and mounts without port= and mountport= do not " +
				"find it. Other mounts work.",
			Next: "Look at the log of rpcbind, or set nfs.portmap to off.",
		},
		{
			Name: "portmap-unavailable", ID: "ad5f7374a269447092540340a39f4ac4", Level: slog.LevelWarn,
			Text: "The port mapper cannot be served",
			Meaning: "showmount, QEMU's own NFS client, and mounts without port= and mountport= do not " +
				"find the NFS server. Other mounts work.",
			Next: "Start rpcbind, or free port 111, or set nfs.portmap to off.",
		},
		{
			Name: "portmap-ended", ID: "1f1998e0b6914fcd9abcedac670fae88", Level: slog.LevelWarn,
			Text: "The port mapper has stopped",
			Meaning: "showmount, QEMU's own NFS client, and mounts without port= and mountport= do not " +
				"find the NFS server. Other mounts work.",
			Next: "systemctl restart trinas",
		},
		{
			Name: "portmap-left", ID: "897ff1d571c249fcb34046ae35ae7561", Level: slog.LevelWarn,
			Text:    "The NFS server's registration is left with rpcbind",
			Meaning: "rpcbind tells clients of a server that is not there.",
			Next:    "rpcinfo -d 100003 3 and rpcinfo -d 100005 3",
		},
	}
}
