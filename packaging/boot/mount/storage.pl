#!/usr/bin/perl

# Calls the installed storage plugin as Proxmox does, for the storage "vms" at /mnt/pve/vms:
#
#     storage.pl METHOD [ARGUMENT...]     one call, the result on standard output
#     storage.pl serve                    activate and look, again and again, as pvestatd does
#
# OPTIONS in the environment is its trinas-options. Proxmox's classes are the stand-ins of the plugin's tests (folder
# standin); what those leave out, commands, locks and the table of mounts, is real here.

use strict;
use warnings;

use Fcntl qw(LOCK_EX);
use FindBin;
use Sys::Hostname;

use lib "$FindBin::Bin/standin";

use PVE::Cluster;
use PVE::ProcFSTools;
use PVE::Storage::Plugin;
use PVE::Tools;

my $class = 'PVE::Storage::Custom::TrinasPlugin';
require PVE::Storage::Custom::TrinasPlugin;
$class->register(); # before the plugins are initialized
require PVE::Storage;

no warnings 'redefine'; ## no critic (ProhibitNoWarnings)

*PVE::Cluster::get_nodelist = sub { return [hostname()] };

*PVE::ProcFSTools::parse_proc_mounts = sub {
    open(my $table, '<', '/proc/self/mounts') or die "/proc/self/mounts: $!\n";
    my @rows = map { [split(/ /, $_)] } <$table>;
    close($table) or die "/proc/self/mounts: $!\n";
    return \@rows;
};

*PVE::Tools::run_command = sub {
    my ($command, %opt) = @_;
    local $SIG{ALRM} = sub { die "$opt{errmsg}: no end after $opt{timeout} s\n" };
    alarm($opt{timeout});
    my $status = system(@$command);
    alarm(0);
    die "$opt{errmsg}: '@$command' failed: exit code " . ($status >> 8) . "\n" if $status;
    return 0;
};

*PVE::Tools::lock_file = sub {
    my ($path, $timeout, $code) = @_;
    return eval {
        open(my $file, '>', $path) or die "$path: $!\n";
        flock($file, LOCK_EX) or die "$path: $!\n";
        $code->();
        close($file) or die "$path: $!\n";
    };
};

my $scfg = $class->check_config('vms', {
    type => 'trinas', path => '/mnt/pve/vms', 'trinas-volume' => 'vms', content => { images => 1 }, 'trinas-options' => $ENV{OPTIONS} // '',
}, 1, 1);
my ($method, @args) = @ARGV;
if ($method eq 'serve') {
    while (1) {
        eval { $class->activate_storage('vms', $scfg, {}); $class->status('vms', $scfg, {}) };
        warn $@ if $@;
        sleep(1);
    }
}
my @given = $method =~ m/_storage$/ ? {} : @args;
print join(' ', $class->$method('vms', $scfg, @given)), "\n";
