# Add an order; any task ID that GraFx gave you will do.
curl -s -d taskID="$TASK_ID" -d projectID=brochure-7 localhost:8080/orders

# Ask how it is; once "state" is "done", "files" says where the file is.
curl -s localhost:8080/orders/grafx/"$TASK_ID"

# Or have the file over HTTP.
curl -s -OJ localhost:8080/orders/grafx/"$TASK_ID"/file
