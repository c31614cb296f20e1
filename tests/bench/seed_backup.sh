#!/bin/bash
# The seed's own script, word for word.
# バックアップディレクトリ
BACKUP_DIR="/backup/postgresql"
DATE=$(date +%Y%m%d_%H%M%S)
BACKUP_FILE="$BACKUP_DIR/db_backup_$DATE.sql.gz"

# PostgreSQL バックアップ実行
pg_dump -h localhost -U dbuser -d dbname | gzip > $BACKUP_FILE

# 30 日より古いバックアップを削除
find $BACKUP_DIR -name "db_backup_*.sql.gz" -mtime +30 -delete
