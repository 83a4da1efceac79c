package Trinas::TestPVE;

# Loads the plugin for a test: over the stand-ins beside this, or with PVE_PERL=DIR[:DIR...] over the
# real classes of Proxmox VE that are there. The plugin is registered as Proxmox does it, before the
# plugins are initialized. Commands that mount are not run but noted; the table of mounts is the
# test's.

use strict;
use warnings;

use Exporter qw(import);
use File::Temp qw(tempdir);
use FindBin;
use POSIX ();
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime);

our @EXPORT_OK = qw($CLASS $REAL @COMMANDS @MOUNTS scfg warnings_of within);

our $CLASS = 'PVE::Storage::Custom::TrinasPlugin';
our $REAL = $ENV{PVE_PERL};
our @COMMANDS; # that would have been run
our @MOUNTS; # rows of /proc/mounts

my ($here) = $FindBin::Bin =~ m/\A(.*)\z/; # for tests with -T
my @real_dirs = map { m/\A(.+)\z/ ? $1 : () } split(/:/, $REAL // '');
for my $dir (@real_dirs) {
    die "PVE_PERL: no folder '$dir'\n" if !-d $dir;
}
unshift @INC, @real_dirs ? @real_dirs : "$here/standin", "$here/..";

require PVE::Storage::Plugin;
{
    my $init = PVE::Storage::Plugin->can('init');
    no warnings 'redefine'; ## no critic (ProhibitNoWarnings)
    *PVE::Storage::Plugin::init = sub {
        require PVE::Storage::Custom::TrinasPlugin;
        $CLASS->register();
        return $init->(@_);
    };
    require PVE::Storage;

    my $run = \&PVE::Tools::run_command;
    *PVE::Tools::run_command = sub {
        my ($command, @rest) = @_;
        return $run->($command, @rest) if !ref($command) || $command->[0] !~ m!/(systemd-mount|systemctl|umount|chattr)$!;
        push @COMMANDS, join(' ', @$command);
        die "chattr: Operation not supported\n" if $command->[0] =~ m!/chattr$! && $ENV{NO_CHATTR};
        push @MOUNTS, [$command->[-2], $command->[-1], 'nfs'] if $command->[0] =~ m!/systemd-mount$! && !$ENV{NO_MOUNT};
        @MOUNTS = grep { $_->[1] ne $command->[-1] } @MOUNTS if $command->[0] =~ m!/(?:umount|systemctl)$!;
        return 0;
    };
    *PVE::ProcFSTools::parse_proc_mounts = sub { return [@MOUNTS] };
    *PVE::Cluster::get_nodelist = sub { return ['pve1', 'pve2'] };
}
$Trinas::Mount::LOCK_DIR = tempdir(CLEANUP => 1);

# scfg gives a storage's configuration as it is after check_config, with a path of its own.
sub scfg {
    my (%more) = @_;
    my $dir = tempdir(CLEANUP => 1);
    my $scfg = {
        type => 'trinas', path => "$dir/vms", 'trinas-volume' => 'vms', 'trinas-cluster' => 'c1', shared => 1,
        preallocation => 'off', content => { images => 1, iso => 1 }, %more,
    };
    return $scfg;
}

# took runs the code and gives the seconds that it took.
sub took {
    my ($code) = @_;
    my $began = clock_gettime(CLOCK_MONOTONIC);
    $code->();
    return clock_gettime(CLOCK_MONOTONIC) - $began;
}

# within gives the seconds that the code took, of at most five runs the first that ended in time: what a busy
# machine adds to one is not the code's.
sub within {
    my ($seconds, $code) = @_;
    my $took;
    for (1 .. 5) {
        $took = took($code);
        last if $took < $seconds;
    }
    return $took;
}

# warnings_of runs the code and gives its warnings.
sub warnings_of {
    my ($code) = @_;
    my @seen;
    local $SIG{__WARN__} = sub { push @seen, @_ };
    $code->();
    return @seen;
}

1;
