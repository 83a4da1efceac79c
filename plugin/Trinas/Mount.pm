package Trinas::Mount;

# Mounts a volume from this node's agent, and unmounts it. A mount is a unit of systemd's own, a
# transient one: nothing of it is in the control group of whoever asked, so that a restart of
# pvestatd does not end a mount that is under way, and a restart of the agent does not touch it. It
# comes after trinas.service, so that at shutdown it is gone before the agent stops.
#
# Whether something is mounted is read from the kernel's table. The mounted directory itself is
# never looked at: that would wait while the volume has no primary.

use strict;
use warnings;

use File::Path;
use PVE::ProcFSTools;
use PVE::Tools;

my $MOUNT_SECONDS = 15; # then systemd ends a mount.nfs that hangs
my $COMMAND_SECONDS = 20; # of any command run here
my $LOCK_SECONDS = 30;

our $LOCK_DIR = '/run/lock';

# Options that may be added, and whether they take a value. Not: what decides how safe the data are
# (soft, intr, vers, proto), and where the agent is (port).
my $EXTRA = {
    (map { $_ => qr/\d{1,9}/ } qw(nconnect rsize wsize timeo retrans actimeo acregmin acregmax acdirmin acdirmax)),
    (map { $_ => undef } qw(noatime nodiratime relatime nosuid nodev noexec rdirplus nordirplus)),
    lookupcache => qr/all|none|pos|positive/,
};

# parse_options takes apart the value of trinas-options: a hash reference of mount options by name
# with their text, and whether "lazy-unmount" is among them. Dies when there is another.
sub parse_options {
    my ($text) = @_;

    my ($extra, $lazy) = ({}, 0);
    for my $option (split(/,/, $text // '')) {
        if ($option eq 'lazy-unmount') {
            $lazy = 1;
            next;
        }
        my ($name, $value) = split(/=/, $option, 2);
        my $known = defined($name) && exists($EXTRA->{$name});
        my $want = $known ? $EXTRA->{$name} : undef;
        die "trinas-options: '$option' cannot be used here: only lazy-unmount, " . join(', ', sort keys %$EXTRA) . "\n"
            if !$known || defined($want) != defined($value) || (defined($want) && $value !~ m/\A$want\z/);
        $extra->{$name} = $option;
    }
    return ($extra, $lazy);
}

# source tells what is mounted at a path, as "what" and "file system type"; nothing when nothing is.
sub source {
    my ($path, $mounts) = @_;

    $mounts //= PVE::ProcFSTools::parse_proc_mounts();
    my @at = grep { $_->[1] eq $path } @$mounts;
    return @at ? ($at[-1]->[0], $at[-1]->[2]) : ();
}

# is_mounted tells whether the volume is mounted at a path. Dies when something else is. $source as
# the agent gives it; undef when it does not say: then any mount from this node's own NFS server with
# the volume's name will do.
sub is_mounted {
    my ($path, $volume, $source, $mounts) = @_;

    my ($what, $type) = source($path, $mounts) or return 0;
    my $wanted = defined($source) ? qr/\Q$source\E/ : qr/(?:127\.[0-9.]+|\[::1\]):\/\Q$volume\E/;
    return 1 if $type =~ m/^nfs/ && $what =~ m/\A$wanted\/?\z/;
    die "something else is mounted at '$path': $what\n";
}

# mount_volume mounts, unless somebody else has done it meanwhile. $mount is the agent's word: source
# and options.
sub mount_volume {
    my ($storeid, $path, $volume, $mount, $extra) = @_;

    my ($source) = ($mount->{source} // '') =~ m!\A((?:[0-9.]+|\[[0-9a-f:]+\]):/[A-Za-z0-9._-]+)\z!
        or die "the agent's word for where to mount from cannot be used\n";
    my ($options) = ($mount->{options} // '') =~ m/\A([A-Za-z0-9=,._-]+)\z/
        or die "the agent's mount options cannot be used\n";
    my @options = grep { my ($name) = split(/=/, $_); !exists($extra->{$name}) } split(/,/, $options);
    $options = join(',', @options, map { $extra->{$_} } sort keys %$extra);

    my $work = sub {
        return if is_mounted($path, $volume, $source);
        prepare($path);
        PVE::Tools::run_command(
            [
                '/usr/bin/systemd-mount', '--quiet', '--collect', '--type=nfs', "--options=$options",
                "--description=trinas volume $volume", '--property=After=trinas.service',
                "--property=TimeoutSec=$MOUNT_SECONDS", $source, $path,
            ],
            timeout => $COMMAND_SECONDS,
            errmsg => "mount $source at '$path' (see systemctl status '$path')",
        );
        die "mount $source at '$path': it is not there (see systemctl status '$path')\n"
            if !is_mounted($path, $volume, $source);
        return;
    };
    PVE::Tools::lock_file("$LOCK_DIR/trinas-mount-$storeid.lock", $LOCK_SECONDS, $work);
    die $@ if $@; # lock_file's way to tell
    return;
}

# prepare makes the directory under the mount, and makes it immutable: while the volume is not mounted
# nothing can be written there, on the node's own disk.
sub prepare {
    my ($path) = @_;

    if (!-d $path) {
        File::Path::make_path($path);
    } elsif (opendir(my $dir, $path)) {
        warn "'$path' is not empty: what is in it is hidden by the mount\n"
            if grep { $_ ne '.' && $_ ne '..' } readdir($dir);
        closedir($dir);
    }
    eval { set_immutable($path, '+i') };
    warn "directory '$path' under the mount can be written to, on this node's disk: $@" if $@;
    return;
}

sub set_immutable {
    my ($path, $how) = @_;

    PVE::Tools::run_command(['/usr/bin/chattr', $how, $path], timeout => $COMMAND_SECONDS, errmsg => 'chattr');
    return;
}

# unmount ends the mount. Not lazily it fails while the volume is used here.
sub unmount {
    my ($path, $lazy) = @_;

    # umount itself could hang in the kernel; systemd's does so outside of this process.
    my $command = $lazy ? ['/usr/bin/umount', '-l', '-c', $path] : ['/usr/bin/systemctl', 'stop', $path];
    PVE::Tools::run_command($command, timeout => $COMMAND_SECONDS, errmsg => "unmount '$path'");
    return;
}

# forget removes the directory under a mount that is gone.
sub forget {
    my ($path) = @_;

    return if !-d $path;
    set_immutable($path, '-i');
    rmdir($path);
    return;
}

1;
