. ./checks.sh
port=$(ask relay n1) || exit 1
mount_volume "$NODE1" /mnt/relay "port=$port" || exit 1

# What others see, with nothing cached.
mount_volume "$NODE1" /mnt/n1 noac,lookupcache=none || exit 1
mount_volume "$NODE2" /mnt/n2 noac,lookupcache=none || exit 1
mount_volume "$NODE3" /mnt/n3 noac,lookupcache=none || exit 1

./once -relay "$NODE1:$port" -volume "$VOLUME" ${QUICK:+-quick}
