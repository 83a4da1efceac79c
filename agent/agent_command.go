package main

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"

	"trinas/agent/config"
	"trinas/agent/journal"
)

// agentFlags are the keys of the configuration that a flag overrides.
type agentFlags struct {
	configPath string
	example    bool
	pprof      string
	set        map[string]*string // flag name to value
}

func (c *cli) agentCommand() *cobra.Command {
	f := &agentFlags{set: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run this node's agent, until a signal",
		Long: "Runs the agent: it keeps this node's replicas, and serves every volume over NFS. SIGTERM or an\n" +
			"interrupt hands its primaries over to other nodes and ends it. Without a cluster it waits for\n" +
			"trinas init or trinas join.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.example {
				_, err := c.out.Write(config.Example())
				return err
			}
			cfg, err := f.load(cmd)
			if err != nil {
				return err
			}
			log := slog.New(journal.New(c.errOut, cfg.Level()))
			if err := becomeIOFlusher(); err != nil {
				log.Warn("a guest that swaps to a volume of its own node could stall: "+
					"run the agent with CAP_SYS_RESOURCE", "event", "no-io-flusher", "cause", err)
			}
			if err := protectFromOOM(); err != nil {
				log.Warn("when this machine's memory runs out the agent may be killed, and guests stand still: "+
					"run it with CAP_SYS_RESOURCE", "event", "oom-victim", "cause", err)
			}
			if err := coarsenTimers(); err != nil {
				log.Debug("timers stay as precise as they are; that costs processor time", "cause", err)
			}
			debug.SetMemoryLimit(int64(cfg.Memory.Limit))
			err = newDaemon(cfg, f.pprof, log).Run(cmd.Context())
			if err != nil && journal.Connected() {
				log.Error(err.Error(), "event", "agent-failed")
				return exitStatus(1) // told
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.configPath, "config", config.Path, "configuration `file`")
	flags.BoolVar(&f.example, "example", false, "print the configuration's keys with their defaults, and end")
	flags.StringVar(&f.pprof, "pprof", "", "serve runtime profiles at this loopback `address`")
	_ = flags.MarkHidden("pprof") // the flag was defined in the line above
	for _, o := range overrides() {
		f.set[o.flag] = flags.String(o.flag, "", o.usage)
	}
	return cmd
}

// override is a key of the configuration that has a flag. The control socket's flag is the root
// command's own.
type override struct {
	flag, usage string
	set         func(*config.Config, string)
}

func overrides() []override {
	return []override{
		{"data-dir", "`directory` of this node's replicas (data_dir)", func(c *config.Config, v string) { c.DataDir = v }},
		{"node", "`name` of this node (node.name)", func(c *config.Config, v string) { c.Node.Name = v }},
		{"peer-listen", "`address` for other nodes (peer.listen)", func(c *config.Config, v string) { c.Peer.Listen = v }},
		{"peer-advertise", "`address` told to other nodes (peer.advertise)", func(c *config.Config, v string) { c.Peer.Advertise = v }},
		{"nfs-listen", "`addresses` of the NFS server, with commas between (nfs.listen)",
			func(c *config.Config, v string) { c.NFS.Listen = config.SplitAddresses(v) }},
		{"portmap", "auto or off (nfs.portmap)", func(c *config.Config, v string) { c.NFS.Portmap = v }},
		{"log-level", "debug, info, warn or error (log_level)", func(c *config.Config, v string) { c.LogLevel = v }},
	}
}

// load reads the configuration file, puts the flags over it and checks the result. Only the file
// at the usual place may be missing.
func (f *agentFlags) load(cmd *cobra.Command) (config.Config, error) {
	cfg, err := config.Load(f.configPath, !cmd.Flags().Changed("config"))
	if err != nil {
		return cfg, err
	}
	for _, o := range overrides() {
		if cmd.Flags().Changed(o.flag) {
			o.set(&cfg, *f.set[o.flag])
		}
	}
	if socket := cmd.Flags().Lookup("socket"); socket != nil && socket.Changed {
		cfg.Control.Socket = socket.Value.String()
	}
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("configuration: %w", err)
	}
	return cfg, nil
}
